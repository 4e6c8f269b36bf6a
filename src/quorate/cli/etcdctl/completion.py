"""completion: scripts for shells, made from the table of commands. They name commands and flags, not keys."""

from __future__ import annotations

from quorate.cli.etcdctl.commands import GLOBAL_FLAGS, ROOT, Command
from quorate.cli.etcdctl.context import Context, bad_args

SHELLS = ("bash", "zsh", "fish", "powershell")


def _paths(command: Command, path: str) -> list[tuple[str, Command]]:
    found = [(path, command)]
    for each in command.commands:
        if not each.hidden:
            found += _paths(each, f"{path} {each.name}".strip())
    return found


def _words(command: Command) -> str:
    names = [each.name for each in command.commands if not each.hidden]
    flags = [] if command is ROOT else [f"--{flag.name}" for flag in command.flags]
    return " ".join([*names, *flags, *[f"--{flag.name}" for flag in GLOBAL_FLAGS], "--help"])


def bash() -> str:
    """Return the script for bash."""
    cases = "\n".join([f'    "{path}") words="{_words(command)}" ;;' for path, command in _paths(ROOT, "")])
    groups = "|".join([path for path, command in _paths(ROOT, "") if path and command.commands])
    return f"""# bash completion for etcdctl
_etcdctl() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" path="" words="" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in
      -*) ;;
      *) case "$path" in
           ""|{groups}) path="${{path:+$path }}$word" ;;
         esac ;;
    esac
  done
  case "$path" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [ ${{#COMPREPLY[@]}} -eq 0 ]; then COMPREPLY=($(compgen -f -- "$current")); fi
}}
complete -F _etcdctl etcdctl
"""


def zsh() -> str:
    """Return the script for zsh, which runs bash's."""
    return "#compdef etcdctl\nautoload -U +X bashcompinit && bashcompinit\n" + bash()


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish() -> str:
    """Return the script for fish."""
    lines = ["# fish completion for etcdctl", "complete -c etcdctl -f"]
    for path, command in _paths(ROOT, ""):
        seen = " ".join([f"__fish_seen_subcommand_from {word};" for word in path.split()])
        where = _quoted(" and ".join(seen.rstrip(";").split("; ")) if seen else "__fish_use_subcommand")
        for each in command.commands:
            lines.append(f"complete -c etcdctl -n {where} -a {each.name} -d {_quoted(each.short)}")
        for flag in () if command is ROOT else command.flags:
            lines.append(f"complete -c etcdctl -n {where} -l {flag.name} -d {_quoted(flag.usage)}")
    lines += [f"complete -c etcdctl -l {flag.name} -d {_quoted(flag.usage)}" for flag in GLOBAL_FLAGS]
    return "\n".join(lines) + "\n"


def powershell() -> str:
    """Return the script for PowerShell."""
    cases = "\n".join([f"    '{path}' {{ '{_words(command)}' }}" for path, command in _paths(ROOT, "")])
    return f"""# powershell completion for etcdctl
Register-ArgumentCompleter -Native -CommandName etcdctl -ScriptBlock {{
  param($current, $ast, $position)
  $given = $ast.CommandElements | Select-Object -Skip 1 | ForEach-Object {{ "$_" }}
  $path = ($given | Where-Object {{ $_ -notlike '-*' -and $_ -ne $current }}) -join ' '
  $words = switch ($path) {{
{cases}
  }}
  "$words".Split(' ') | Where-Object {{ $_ -like "$current*" }} | ForEach-Object {{
    [System.Management.Automation.CompletionResult]::new($_)
  }}
}}
"""


def run(context: Context) -> None:
    """Print the script for a shell."""
    if len(context.args) != 1:
        raise bad_args(f"accepts 1 arg(s), received {len(context.args)}")
    if context.args[0] not in SHELLS:
        raise bad_args(f'invalid argument "{context.args[0]}" for "etcdctl completion"')
    context.print({"bash": bash, "zsh": zsh, "fish": fish, "powershell": powershell}[context.args[0]]())
