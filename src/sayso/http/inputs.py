"""An input that a body of `/api` names: its address -> the stored artifact."""

from __future__ import annotations

from typing import Literal

from sayso.artifacts.intake import Artifact
from sayso.errors import ArtifactMissing, LinkRefused, UrlRefused
from sayso.ids import AccountId
from sayso.wiring import Services


async def take_input(
    app: Services, account_id: AccountId, url: str, kind: Literal["portrait", "speech"]
) -> Artifact:
    """Take an input in; a link of ours that leads nowhere is as useless as anybody's.

    Raises `UrlRefused` for such a link, and whatever `Inputs.take_url` raises.
    """
    try:
        return await app.inputs.take_url(account_id, url, kind=kind)
    except LinkRefused as error:
        raise UrlRefused(f"The {kind}'s address cannot be used: {error}") from error
    except ArtifactMissing as error:
        raise UrlRefused(f"The {kind} is no longer stored; hand it in again.") from error
