"""``farcast completion``: the script by which a shell completes commands and options."""

from __future__ import annotations

from typing import Literal

from farcast.errors import EXIT_OK

CALL_IN_ZSH = """
if [[ $funcstack[1] == _farcast ]]; then
  _cyclopts_farcast "$@"
else
  compdef _cyclopts_farcast farcast
fi
"""
"""Cyclopts defines the function and leaves it at that: zsh would load the file, and complete nothing."""


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the completion of a shell, for the shell to read when it starts.

    Example: farcast completion bash > ~/.local/share/bash-completion/completions/farcast

    Parameters
    ----------
    shell
        bash, zsh (into a folder of $fpath, as _farcast) or fish (~/.config/fish/completions/farcast.fish).
    """
    from farcast.cli.main import make_app

    script = make_app().generate_completion(prog_name="farcast", shell=shell)
    print(script + CALL_IN_ZSH if shell == "zsh" else script)
    return EXIT_OK
