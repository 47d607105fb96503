"""MkDocs hook: pages of the site that are made from README.md, CONTRIBUTING.md and CHANGELOG.md.

Their links are relative to the repository; below the site's root the folder `docs` has no name.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<=\]\()(?P<target>[^)#]+)(?P<anchor>#[^)]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    root = Path(config.config_file_path).parent
    for name, page in PAGES.items():
        text = LINK.sub(_site_link, (root / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Text of a page of `docs`, whose links to CONTRIBUTING.md and its like lead to pages of the site."""
    del config, files
    if "/" in page.file.src_uri:
        return markdown
    return LINK.sub(_link_from_docs, markdown)


def _link_from_docs(link: re.Match[str]) -> str:
    """The target of a link in `docs`, which names these files as `../NAME`."""
    target = link["target"]
    return (
        PAGES.get(target.removeprefix("../"), target) + (link["anchor"] or "")
        if target.startswith("../")
        else link[0]
    )


def _site_link(link: re.Match[str]) -> str:
    """The target of a link as a page of the site."""
    target = link["target"]
    return PAGES.get(target, target.removeprefix("docs/")) + (link["anchor"] or "")
