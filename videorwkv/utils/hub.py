"""The Hugging Face Hub: `hf:owner/name[@revision]` to a folder, and a folder to a repository.

Cache, tokens, offline mode (HF_HUB_OFFLINE) and another server (HF_ENDPOINT) are those of
huggingface_hub itself; its library is loaded when a repository is named, and not before.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from videorwkv.errors import CheckpointError, UsageError
from videorwkv.utils.optional import load

PREFIX = "hf:"
NOT_CACHED = (
    "The cache does not have all of it either: check the network and HF_HUB_OFFLINE, or give a "
    "folder."
)
_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


def is_hub(source: str | Path) -> bool:
    """Whether this names a repository of the Hub: it begins with `hf:`."""
    return str(source).startswith(PREFIX)


def parse(source: str | Path) -> tuple[str, str | None]:
    """`hf:owner/name@revision` -> `owner/name` and the revision, None where none is given.

    Raises:
        UsageError: it is not of that form.
    """
    found = _NAME.fullmatch(str(source).removeprefix(PREFIX))
    if found is None:
        raise UsageError(
            f"{str(source)!r} names no repository of the Hub: hf:owner/name is wanted, or "
            "hf:owner/name@revision with a branch, a tag or a commit."
        )
    return found["repo"], found["revision"]


def local_name(source: str | Path) -> str:
    """A name for a folder of one's own beside a repository's: `owner--name`, `owner--name@v1`."""
    repo, revision = parse(source)
    return (repo if revision is None else f"{repo}@{revision}").replace("/", "--")


def fetch(
    source: str | Path,
    first: str,
    check: Callable[[Path], object],
    then: Sequence[str],
    **options: Any,
) -> Path:
    """Files of a repository, from the Hub or from its cache: the folder that holds them.

    Args:
        source: `hf:owner/name`, with `@revision` for other than the main branch.
        first: a file that has to be there.
        check: looks at the folder with that file alone, and raises where nothing more is wanted.
        then: the first of these that is there is taken from the same commit. No other file is
            read: a repository may hold what is large, or code.
        options: of `huggingface_hub.hf_hub_download`: `token`, `cache_dir`, `local_files_only`,
            `force_download`.

    Raises:
        UsageError: no such repository or revision, or huggingface_hub is not installed.
        CheckpointError: it holds no `first`, or it can't be reached and is not in the cache.
    """
    repo, revision = parse(source)
    hub = load("huggingface_hub", str(source))
    # A module of its own, which the package does not load by itself.
    if _is_away(load("huggingface_hub.constants", str(source)).ENDPOINT):
        options["local_files_only"] = True
    with _errors(str(source), first):
        folder = Path(hub.hf_hub_download(repo, first, revision=revision, **options)).parent
    check(folder)
    missing = load("huggingface_hub.errors", str(source)).EntryNotFoundError
    with _errors(str(source), first):
        for name in then:
            with suppress(missing):
                # The name of the folder is the commit, so that a push meanwhile mixes nothing.
                hub.hf_hub_download(repo, name, revision=folder.name, **options)
                break
    return folder


def fetch_data(source: str | Path, patterns: Sequence[str]) -> Path:
    """All files of a repository of the type `dataset` whose names fit, from the Hub or from its
    cache: the folder that holds them, whose name is the commit.

    Args:
        source: `hf:owner/name`, with `@revision` for other than the main branch.
        patterns: `*.mp4` and the like; no other file is downloaded.

    Raises:
        UsageError: no such repository or revision, or huggingface_hub is not installed.
        CheckpointError: it can't be reached, and is not in the cache or is there in part.
    """
    repo, revision = parse(source)
    hub = load("huggingface_hub", str(source))
    with _errors(str(source), "", kind="data set"):
        return Path(
            hub.snapshot_download(
                repo, repo_type="dataset", revision=revision, allow_patterns=list(patterns)
            )
        )


def push(
    folder: Path,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "",
    token: str | bool | None = None,
    create_pr: bool = False,
) -> str:
    """Upload a folder as a repository, which is made if there is none: the address of the commit.

    Args:
        folder: all of it is uploaded; what else the repository holds stays.
        repo: `owner/name`.
        private: whether a new repository is; None: as the owner's account has it.
        revision: the branch, which is made if there is none; None: main.
        message: of the commit.
        token: of the account; None: the one that `hf auth login` has stored, or HF_TOKEN.
        create_pr: propose the commit as a pull request instead.

    Raises:
        UsageError: not of the form `owner/name`, no such account, or no right to write.
        CheckpointError: the Hub can't be reached.
    """
    repo, given = parse(repo)
    if given is not None:
        raise UsageError(f"{repo}@{given}: name the branch to push to by `revision`, not with @.")
    hub = load("huggingface_hub", f"Pushing to {repo}")
    with _errors(f"{PREFIX}{repo}", "", "Check the network and HF_HUB_OFFLINE."):
        api = hub.HfApi(token=token, library_name="videorwkv")
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None and not create_pr:
            api.create_branch(repo, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message=message or "Upload with videorwkv",
            revision=revision,
            create_pr=create_pr,
        )
    return str(done.pr_url or done.commit_url)


def _is_away(endpoint: str) -> bool:
    """Whether nobody knows the address of the server, as without a network: the library would ask
    for half a minute before it looks into its cache. Behind a proxy, that is asked instead."""
    host = urlsplit(endpoint).hostname or ""
    if getproxies() or not host:
        return False
    for pause in (1.0, 0.0):
        try:
            socket.getaddrinfo(host, None)
            return False
        except OSError:
            time.sleep(pause)
    return True


@contextmanager
def _errors(
    source: str, wanted: str, away: str = NOT_CACHED, kind: str = "model"
) -> Iterator[None]:
    """What the library raises, as errors of ours that say what to do.

    Args:
        source: the repository, for messages.
        wanted: a file that has to be there.
        away: what to do where the Hub can't be reached.
        kind: of the repository, for messages.
    """
    kinds = load("huggingface_hub.errors", source)
    repo, revision = parse(source)
    host = load("huggingface_hub.constants", source).ENDPOINT.rstrip("/")
    page = f"{host}/{repo}" if kind == "model" else f"{host}/datasets/{repo}"
    try:
        yield
    except kinds.GatedRepoError as error:
        raise UsageError(
            f"{source} is gated: ask for access at {page}, then `hf auth login`."
        ) from error
    except kinds.RevisionNotFoundError as error:
        raise UsageError(
            f"{source}: the repository has no branch, tag or commit {revision!r}; "
            f"{page}/tree/main lists them."
        ) from error
    except kinds.RepositoryNotFoundError as error:
        raise UsageError(
            f"{source}: {host} knows no such {kind}, or does not show it to this account. Check "
            "the name; for a private one, log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except kinds.LocalEntryNotFoundError as error:
        raise CheckpointError(f"{source}: {host} can't be reached. {away}") from error
    except kinds.EntryNotFoundError as error:
        raise CheckpointError(
            f"{source} is no run: the repository has no {wanted}. `videorwkv push RUN owner/name` "
            "makes one that has."
        ) from error
    except kinds.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        reason = " ".join(str(error).split())
        if status in (401, 403):
            raise UsageError(
                f"{source}: {host} refused it ({reason}). Log in with `hf auth login`, or set "
                "HF_TOKEN to a token that may do this."
            ) from error
        raise CheckpointError(f"{source}: {host} answered: {reason}. Try again later.") from error
    # A ValueError, as a wrong name is: the library knows more rules than the pattern above.
    except kinds.HFValidationError as error:
        raise UsageError(f"{source}: {' '.join(str(error).split())}") from error
    except (kinds.HTTPError, kinds.RevisionResolutionError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of a disk, with the name of the file
        raise CheckpointError(f"{source}: {host} can't be reached. {away}") from error
