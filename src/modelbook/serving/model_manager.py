"""Follow the aliases: load the versions that they name, and try again those that do not load."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from modelbook.errors import ModelbookError
from modelbook.registry.aliases import CHALLENGER, CHAMPION, DIGEST_TAG, RegisteredVersion
from modelbook.serving.served_models import (
    ServedModel,
    find_registry_problem,
    find_served_versions,
    load_model,
)

LOG = logging.getLogger("modelbook.serving")
ALIASES = (CHAMPION, CHALLENGER)
MAX_RETRY_SECONDS = 60.0  # longest pause between attempts to load a version; the first is 1 s
VersionKey = tuple[int, str | None]  # number and digest


@dataclass
class AliasState:
    """The version that an alias names, and the failed attempts to load it.

    Attributes
    ----------
    key : VersionKey or None
        None if the alias names no version.
    is_settled : bool
        Whether the version is in service, or no longer in service because the alias names none.
    retry_at : float
        ``time.monotonic()`` of the next attempt.
    """

    key: VersionKey | None = None
    is_settled: bool = False
    failed_attempts: int = 0
    retry_at: float = 0.0

    @property
    def number(self) -> int:
        """Number of the version; 0 for none."""
        return self.key[0] if self.key else 0

    def schedule_retry(self) -> float:
        """Count a failed attempt, and return the seconds until the next one."""
        pause = min(MAX_RETRY_SECONDS, 2.0**self.failed_attempts)
        self.failed_attempts += 1
        self.retry_at = time.monotonic() + pause
        return pause


class ModelManager:
    """Loads the versions behind the aliases and keeps them up to date.

    Attributes
    ----------
    champion, challenger : ServedModel or None
        Versions in service.
    problems : dict
        By alias, why the version that it names is not in service.
    """

    def __init__(self, root: Path, book: str, max_rows: int) -> None:
        self._root, self._book, self._max_rows = root, book, max_rows
        self.champion: ServedModel | None = None
        self.challenger: ServedModel | None = None
        self.problems: dict[str, str] = {}
        self._states = {alias: AliasState() for alias in ALIASES}
        self._models_by_key: dict[VersionKey, ServedModel] = {}

    @property
    def served_numbers(self) -> dict[str, int]:
        """By alias, the version in service; 0 for none."""
        return {alias: model.number if model else 0 for alias, model in self._models()}

    @property
    def alias_numbers(self) -> dict[str, int]:
        """By alias, the version that it names; 0 for none."""
        return {alias: state.number for alias, state in self._states.items()}

    @property
    def failed_attempts(self) -> dict[str, int]:
        """By alias, how often the version that it names failed to load."""
        return {alias: state.failed_attempts for alias, state in self._states.items()}

    async def refresh(self) -> None:
        """Load the versions that the aliases name, if they have moved or a retry is due."""
        try:
            versions = await asyncio.to_thread(find_served_versions, self._root, self._book)
            problem = await asyncio.to_thread(find_registry_problem, self._root, self._book)
        except ModelbookError as error:
            self._note_registry_problem(error.problem)
            return
        self._note_registry_problem(problem)
        former_champion = self.champion
        for alias in ALIASES:
            await self._refresh_alias(alias, versions.get(alias))
            if alias == CHAMPION and self.champion is not former_champion:
                # Whether the challenger may serve depends on the champion: decide it anew.
                self._states[CHALLENGER] = AliasState()

    def _note_registry_problem(self, problem: str) -> None:
        if problem and self.problems.get("store") != problem:
            LOG.error("the registry cannot be read", extra={"reason": problem})
        if problem:
            self.problems["store"] = problem
        else:
            self.problems.pop("store", None)

    async def _refresh_alias(self, alias: str, version: RegisteredVersion | None) -> None:
        key = (version.number, version.tags.get(DIGEST_TAG)) if version else None
        state = self._states[alias]
        if key != state.key:
            self._states[alias] = state = AliasState(key)
        elif state.is_settled or time.monotonic() < state.retry_at:
            return
        if version is None:
            self._remove(alias)
            return
        assert key is not None
        started = time.monotonic()
        try:
            model = await asyncio.to_thread(self._load_model, key, version)
            self._require_same_fields(alias, model)
        except Exception as error:  # a broken new version must not replace the one in service
            self._refuse(alias, version.number, state, error)
            return
        self._put_in_service(alias, model, time.monotonic() - started)

    def _remove(self, alias: str) -> None:
        self.problems.pop(alias, None)
        self._states[alias].is_settled = True
        if alias == CHALLENGER:
            self.challenger = None
        elif self.champion:
            self.problems[alias] = "the alias was removed; the last version stays in service"

    def _refuse(self, alias: str, number: int, state: AliasState, error: Exception) -> None:
        is_known = isinstance(error, ModelbookError)
        reason = error.problem if is_known else f"{type(error).__name__}: {error}"  # type: ignore[attr-defined]
        pause = state.schedule_retry()
        attempts = state.failed_attempts
        self.problems[alias] = f"version {number}: {reason} (failed attempts: {attempts})"
        if alias == CHALLENGER:
            self.challenger = None
        log_fields = {"alias": alias, "version": number, "reason": reason}
        LOG.error(
            "a version was refused",
            extra={**log_fields, "failed_attempts": attempts, "retry_in_seconds": pause},
        )

    def _put_in_service(self, alias: str, model: ServedModel, seconds: float) -> None:
        self.problems.pop(alias, None)
        self._states[alias] = AliasState(self._states[alias].key, is_settled=True)
        setattr(self, alias, model)
        log_fields = {
            "alias": alias,
            "version": model.number,
            "scorer": model.tags.get("scorer", model.scorer.name),
        }
        proof = {"golden_rows": model.golden_rows, "load_seconds": round(seconds, 3)}
        LOG.info("in service", extra={**log_fields, **proof})
        if not model.scorer.is_compiled:
            LOG.warning("the uncompiled pipeline serves, which is slower", extra=log_fields)
        in_service = [model for _, model in self._models()]
        self._models_by_key = {
            key: model for key, model in self._models_by_key.items() if model in in_service
        }

    def _models(self) -> list[tuple[str, ServedModel | None]]:
        return [(CHAMPION, self.champion), (CHALLENGER, self.challenger)]

    def _load_model(self, key: VersionKey, version: RegisteredVersion) -> ServedModel:
        if key not in self._models_by_key:
            self._models_by_key[key] = load_model(version, self._max_rows)
        return self._models_by_key[key]

    def _require_same_fields(self, alias: str, model: ServedModel) -> None:
        """Require that a challenger reads no fields that the champion's requests lack."""
        if alias != CHALLENGER or self.champion is None:
            return
        champion_fields = set(self.champion.contract.feature_names)
        extra_fields = sorted(set(model.contract.feature_names) - champion_fields)
        if extra_fields:
            raise ModelbookError(
                f"it reads {', '.join(extra_fields)}, which the champion's requests do not contain"
            )
