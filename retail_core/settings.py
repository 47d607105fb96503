"""Every setting, read once from the environment. The only module that reads environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from retail_core.errors import InputError


class Settings(BaseSettings):
    """Where things are and how the question is put. Frozen; pass it, do not re-read it."""

    model_config = SettingsConfigDict(
        env_prefix="RETAIL_", frozen=True, extra="ignore", populate_by_name=True
    )

    home: Path = Path(".retail")
    mongodb_uri: SecretStr | None = None
    mongodb_database: str = "retail"
    lake: str | None = None
    mlflow_tracking_uri: str | None = Field(
        None, validation_alias=AliasChoices("MLFLOW_TRACKING_URI", "mlflow_tracking_uri")
    )
    prefect_api_url: str | None = Field(
        None, validation_alias=AliasChoices("PREFECT_API_URL", "prefect_api_url")
    )
    bentoml_home: str | None = Field(None, validation_alias=AliasChoices("BENTOML_HOME", "bentoml_home"))
    engine: Literal["duckdb", "spark"] = "duckdb"
    spark_master: str = "local[2]"
    memory_limit: str = "3GB"

    timezone: str | None = None
    horizon_hours: int = Field(24, ge=1, le=24 * 28)
    eligible_days: int = Field(7, ge=1, le=730)
    lookback_days: int = Field(28, ge=1, le=730)

    seed: int = 7
    search_rows: int = Field(50_000, ge=1_000)
    fit_rows: int = Field(60_000, ge=1_000)
    min_buyers: int = Field(50, ge=2)
    new_data_limit: float = Field(0.10, gt=0)
    performance_limit: float = Field(0.05, gt=0)
    drift_limit: float = Field(0.25, gt=0, le=1)
    min_matured_buyers: int = Field(50, ge=2)

    model_name: str = "purchase_24h"
    api_keys: SecretStr | None = None
    api_host: str = "127.0.0.1"
    api_port: int = Field(8080, ge=1, le=65_535)
    mlflow_port: int = Field(5000, ge=1, le=65_535)
    prefect_port: int = Field(4200, ge=1, le=65_535)
    app_port: int = Field(8501, ge=1, le=65_535)
    upload_mb: int = Field(200, ge=1)
    rate_limit: float = Field(0.0, ge=0)
    poll_seconds: float = Field(15.0, ge=0)
    access_log: bool = True
    prediction_log: bool = True
    standby: bool = True

    @property
    def home_dir(self) -> Path:
        """`home` as an absolute path."""
        return self.home.expanduser().absolute()

    @property
    def lake_url(self) -> str:
        """Folder or object-store URL of the lake."""
        return self.lake or str(self.home_dir / "lake")

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI; SQLite below `home` unless MLFLOW_TRACKING_URI is set."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home_dir / 'mlflow' / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str | None:
        """Where the embedded MLflow keeps artifacts; None where a server decides."""
        return None if self.mlflow_tracking_uri else (self.home_dir / "mlflow" / "artifacts").as_uri()

    @property
    def upload_results(self) -> Path:
        """BentoML's file of the results of uploads; below `home` unless BENTOML_HOME is set."""
        return Path(self.bentoml_home or self.home_dir / "bentoml") / "task_result.db"


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        InputError: a RETAIL_* variable has a value that is not allowed.
    """
    try:
        return Settings()  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        first = error.errors()[0]
        name = "RETAIL_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InputError(
            f"{name} is not usable: {first['msg']}.", remedy=f"correct or unset {name}."
        ) from error
