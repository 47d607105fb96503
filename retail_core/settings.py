"""Every setting, with its default, and where its value comes from.

A value is taken from the environment, else from `retail.toml` in the working directory, else from
`retail.toml` in the home, else it is the default. Only `load_settings` and `setting_origins` read these
places; everything else is given a `Settings` object.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from retail_core.errors import InputError
from retail_core.settings_files import config_files, read_config, variable_name
from retail_core.sqlite_addresses import sqlite_url


class Settings(BaseSettings):
    """Locations of data and services, the prediction task, and limits. Frozen."""

    model_config = SettingsConfigDict(
        env_prefix="RETAIL_", frozen=True, extra="ignore", populate_by_name=True
    )

    home: Path = Field(
        Path(".retail"),
        description="Folder of all local data: embedded MongoDB, lake, MLflow, Prefect, logs.",
    )
    mongodb_uri: SecretStr | None = Field(
        None,
        description="Your own MongoDB, a replica set: `mongodb://user:password@host/?tls=true`. "
        "Unset: the embedded `mongod` below the home.",
    )
    mongodb_database: str = Field(
        "retail",
        max_length=63,
        pattern=r'^[^/\\. "$*<>:|?\x00]+$',
        description="Name of the MongoDB database, one per shop. The user needs the role readWrite on it.",
    )
    lake: str | None = Field(
        None,
        description="Folder or URL (`s3://bucket/prefix`) of the lake. Unset: a folder below the home.",
    )
    lake_retention_days: int = Field(
        30,
        ge=1,
        le=3_650,
        description="Days for which the lake keeps the files of a version that a training read, so that "
        "`retail models reproduce` can read exactly these rows.",
    )
    inbox: Path | None = Field(
        None,
        description="Folder whose new files the deployment `ingest` reads; subfolders are named after a "
        "preset or have a `mapping.yaml`. Unset: `inbox` below the home.",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        validation_alias=AliasChoices("MLFLOW_TRACKING_URI", "mlflow_tracking_uri"),
        description="Your own MLflow server. Unset: SQLite below the home.",
    )
    prefect_api_url: str | None = Field(
        None,
        validation_alias=AliasChoices("PREFECT_API_URL", "prefect_api_url"),
        description="Your own Prefect server. Unset: an ephemeral one for each flow run.",
    )
    bentoml_home: str | None = Field(
        None,
        validation_alias=AliasChoices("BENTOML_HOME", "bentoml_home"),
        description="BentoML's model store. Unset: a folder below the home.",
    )
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="Query engine that features are computed with."
    )
    spark_master: str = Field(
        "local[2]", description="Spark master: `local[4]`, `spark://host:7077`, `yarn`."
    )
    memory_limit: str = Field(
        "3GB", description="Memory of DuckDB, which spills to disk above it, or of the Spark driver."
    )

    timezone: str | None = Field(
        None, description="Time zone of the shop, which defines midnight. Unset: that of the ingested source."
    )
    horizon_hours: int = Field(
        24, ge=1, le=24 * 28, description="Prediction horizon in hours: how far ahead purchases count."
    )
    eligible_days: int = Field(
        7, ge=1, le=730, description="A user is eligible with an event in this many days before the cut-off."
    )
    lookback_days: int = Field(
        28, ge=1, le=730, description="Days of events before the cut-off that features may use."
    )

    quiet_days: Literal["auto", "real", "outage"] = Field(
        "auto",
        description="Local days without events: `real` (nobody came), `outage` (events are missing, labels "
        "unknown), or `auto`: an outage if the silence has a probability below 0.001 at the shop's rate.",
    )

    stale_log: Literal["warn", "refuse"] = Field(
        "warn", description="A list from a log that is late or has unusually few users: `warn` or `refuse`."
    )

    seed: int = Field(7, description="Random seed of sampling, fits, bootstrap intervals and control groups.")
    search_rows: int = Field(50_000, ge=1_000, description="Maximum rows of the hyperparameter search.")
    fit_rows: int = Field(60_000, ge=1_000, description="Maximum rows of one fit, after downsampling.")
    min_buyers: int = Field(
        50, ge=2, description="Minimum purchases to train on or recalibrate with, by half as many users."
    )
    new_data_limit: float = Field(
        0.10,
        gt=0,
        description="Trigger `new_data`: growth of the number of events since the last training at which it "
        "fires.",
    )
    retrain_pause_days: float = Field(
        1.0,
        ge=0,
        description="Trigger `new_data`: days after the last training before which it does not fire.",
    )
    performance_limit: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Trigger `performance`: relative loss of F1 that it tests for.",
    )
    performance_window_days: int = Field(
        14, ge=1, le=60, description="Trigger `performance`: number of newest matured days that count."
    )
    calibration_limit: float = Field(
        0.10,
        gt=0,
        lt=1,
        description="Trigger `calibration`: relative deviation of observed from promised buyers that is "
        "tolerated.",
    )
    max_model_age_days: int = Field(
        30, ge=1, description="Trigger `age`: days since the last training at which it fires."
    )
    drift_limit: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Trigger `drift`: share of importance in drifted features at which it fires.",
    )
    min_matured_buyers: int = Field(
        50, ge=2, description="Minimum matured buyers for the trigger `performance` and the promotion gate."
    )

    shadow_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the online answers that are scored by a shadow too, after they are sent.",
    )
    shadow_days: int = Field(
        60,
        ge=1,
        le=365,
        description="Matured days after which a shadow ends where no difference from the champion was found.",
    )
    auto_rollback: bool = Field(
        True,
        description="Roll back by itself to the version before, where matured days prove the new one worse.",
    )

    model_name: str = Field("purchase_24h", description="Name of the registered model in MLflow.")
    api_keys: SecretStr | None = Field(
        None,
        description="Comma-separated keys for `X-API-Key`, with all scopes. Without these and without a file "
        "of keys only loopback requests are accepted.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="File of hashed keys with scopes, written by `retail keys`, read again when it changes. "
        "Unset: `api-keys.json` below the home.",
    )
    client_key: SecretStr | None = Field(
        None,
        description="Key that the app and Prefect's automations send to the API. Unset: the first of "
        "`api_keys`.",
    )
    api_host: str = Field(
        "127.0.0.1", description="Address the API binds to; another one than loopback needs keys."
    )
    api_port: int = Field(8080, ge=1, le=65_535, description="Port of the API.")
    mlflow_port: int = Field(5000, ge=1, le=65_535, description="Port of MLflow under `retail up`.")
    prefect_port: int = Field(4200, ge=1, le=65_535, description="Port of Prefect under `retail up`.")
    app_port: int = Field(8501, ge=1, le=65_535, description="Port of the Streamlit app under `retail up`.")
    upload_mb: int = Field(200, ge=1, description="Maximum size of an uploaded file in MB.")
    job_hours: int = Field(
        24,
        ge=1,
        le=8_760,
        description="Hours after its end for which the API keeps a scoring job with its result. A file that "
        "waited this long is not scored any more.",
    )
    rate_limit: float = Field(
        0.0, ge=0, description="Requests per second and key, with bursts of twice that; 0: no limit."
    )
    poll_seconds: float = Field(
        15.0, ge=0, description="Interval at which the API checks for a new promotion; 0: never."
    )
    context_refresh_seconds: float = Field(
        900.0, gt=0, description="Seconds from posted events to the update of the stored shop context."
    )
    history_cache_mb: float = Field(
        128.0,
        ge=0,
        description="Memory of users' histories that the API keeps for lists, in MB; 0: none.",
    )
    alert_urls: SecretStr | None = Field(
        None,
        description="Comma-separated Apprise URLs that alerts are sent to: `mailtos://`, `slack://`, "
        "`workflows://` (Teams), `json://` (webhook). Unset: alerts are only stored.",
    )
    access_log: bool = Field(True, description="Write the API's access log.")
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines of the API's log: `text`, or `json` with one object per line."
    )
    prediction_log: bool = Field(True, description="Store every answer in the collection `prediction_log`.")
    wait_for_model: bool = Field(
        False,
        description="Start the API without a model in production: it stores events, answers 503 to "
        "predictions and `/readyz`, and loads the first version that is promoted.",
    )
    standby: bool = Field(True, description="Keep a second API process loaded that can take over.")

    @property
    def home_dir(self) -> Path:
        """`home` as an absolute path."""
        return self.home.expanduser().absolute()

    @property
    def inbox_dir(self) -> Path:
        """The folder that the deployment `ingest` watches, as an absolute path."""
        return (self.inbox or self.home_dir / "inbox").expanduser().absolute()

    @property
    def api_keys_path(self) -> Path:
        """The file of API keys, as an absolute path."""
        return (self.api_keys_file or self.home_dir / "api-keys.json").expanduser().absolute()

    @property
    def lake_url(self) -> str:
        """Folder or object-store URL of the lake."""
        return self.lake or str(self.home_dir / "lake")

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI; SQLite below `home` unless MLFLOW_TRACKING_URI is set."""
        return self.mlflow_tracking_uri or sqlite_url(self.home_dir / "mlflow" / "mlflow.db")

    @property
    def artifact_root(self) -> str | None:
        """Where the embedded MLflow keeps artifacts; None where a server decides."""
        return None if self.mlflow_tracking_uri else (self.home_dir / "mlflow" / "artifacts").as_uri()

    @property
    def former_upload_results(self) -> Path:
        """File of the results of uploads to earlier releases, in BentoML's home."""
        return Path(self.bentoml_home or self.home_dir / "bentoml") / "task_result.db"


@dataclass(frozen=True)
class SettingOrigin:
    """One setting as `retail config` shows it.

    Attributes:
        name: field of `Settings`, and key in `retail.toml`.
        variable: environment variable.
        value: as text, secrets masked; None where unset.
        origin: `environment`, the path of a settings file, or `default`.
        meaning: description of the setting.
    """

    name: str
    variable: str
    value: str | None
    origin: str
    meaning: str


def load_settings() -> Settings:
    """Settings of the environment and the settings files; the environment overrides the files.

    Raises:
        InputError: a value is not allowed, or a settings file cannot be read or has an unknown key.
    """
    return _load()[0]


def setting_origins() -> list[SettingOrigin]:
    """Every setting with its value and origin.

    Raises:
        InputError: as `load_settings`.
    """
    settings, origins = _load()
    return [
        SettingOrigin(
            name,
            variable_name(name),
            _shown(getattr(settings, name)),
            origins[name],
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def _load() -> tuple[Settings, dict[str, str]]:
    """The settings, and the origin of each."""
    origins = dict.fromkeys(Settings.model_fields, "default")
    values: dict[str, Any] = {}
    for file in config_files(Settings.model_fields["home"].default):
        for name, value in read_config(file, Settings.model_fields).items():
            if origins[name] == "default":
                values[name], origins[name] = value, str(file)
    variables = {name.upper() for name in os.environ}
    for name in origins:
        if variable_name(name) in variables:
            values.pop(name, None)
            origins[name] = "environment"
    try:
        return Settings(**values), origins
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).lower()
        field = name if name in origins else name.removeprefix("retail_")
        label = (
            variable_name(field) if origins.get(field) == "environment" else f"{field} in {origins[field]}"
        )
        raise InputError(
            f"{label} is not usable: {first['msg']}.", remedy=f"correct or remove {label}."
        ) from error


def _shown(value: object) -> str | None:
    return None if value is None else "********" if isinstance(value, SecretStr) else str(value)
