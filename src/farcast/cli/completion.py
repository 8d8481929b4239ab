"""``farcast completion``: the script by which a shell completes commands and options."""

from __future__ import annotations

from typing import Literal

from farcast.errors import EXIT_OK


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the completion of a shell, for the shell to read when it starts.

    Example: farcast completion bash > ~/.local/share/bash-completion/completions/farcast

    Parameters
    ----------
    shell
        bash, zsh (into a folder of $fpath, as _farcast) or fish (~/.config/fish/completions/farcast.fish).
    """
    from farcast.cli.main import make_app

    print(make_app().generate_completion(prog_name="farcast", shell=shell))
    return EXIT_OK
