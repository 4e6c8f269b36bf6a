"""completion: scripts for shells, made from the table of commands. They name commands and flags, not keys."""

from __future__ import annotations

from quorate.cli.etcdctl.commands import Command
from quorate.cli.etcdctl.context import Context, bad_args
from quorate.cli.etcdctl.pflag import BOOL

SHELLS = ("bash", "zsh", "fish", "powershell")


def _paths(command: Command, path: str) -> list[tuple[str, Command]]:
    found = [(path, command)]
    for each in command.commands:
        if not each.hidden:
            found += _paths(each, f"{path} {each.name}".strip())
    return found


def _words(root: Command, command: Command) -> str:
    names = [each.name for each in command.commands if not each.hidden]
    flags = [] if command is root else [f"--{flag.name}" for flag in command.flags]
    return " ".join([*names, *flags, *[f"--{flag.name}" for flag in root.flags], "--help"])


def _valued(root: Command) -> str:
    """Return the flags that take the next word for their value, as a shell pattern."""
    flags = [flag for _, command in _paths(root, "") for flag in command.flags]
    switches = {flag.name for flag in flags if flag.kind == BOOL}
    found = {f"--{flag.name}" for flag in flags if flag.name not in switches}
    found |= {f"-{flag.short}" for flag in flags if flag.short and flag.name not in switches}
    return "|".join(sorted(found))


def bash(root: Command) -> str:
    """Return the script for bash. It splits the line itself, for bash takes "=" and ":" for ends of words."""
    cases = "\n".join([f'    "{path}") words="{_words(root, command)}" ;;' for path, command in _paths(root, "")])
    groups = "|".join([path for path, command in _paths(root, "") if path and command.commands])
    return f"""# bash completion for {root.name}
_{root.name}() {{
  local line="${{COMP_LINE:0:COMP_POINT}}" current="" path="" words="" word last="" given=()
  read -ra given <<< "$line"
  if [[ "$line" != *" " ]]; then
    current="${{given[${{#given[@]}}-1]}}"
    given=("${{given[@]:0:${{#given[@]}}-1}}")
  fi
  for word in "${{given[@]:1}}"; do
    case "$last" in
      {_valued(root)}) last=""; continue ;;
    esac
    last="$word"
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
  case "$last" in
    -w|--write-out) words="fields json protobuf simple table" ;;
    {_valued(root)}) words="" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [ ${{#COMPREPLY[@]}} -eq 0 ]; then COMPREPLY=($(compgen -f -- "$current")); fi
}}
complete -F _{root.name} {root.name}
"""


def zsh(root: Command) -> str:
    """Return the script for zsh, which runs bash's."""
    return f"#compdef {root.name}\nautoload -U +X bashcompinit && bashcompinit\n{bash(root)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish(root: Command) -> str:
    """Return the script for fish."""
    name = root.name
    lines = [f"# fish completion for {name}", f"complete -c {name} -f"]
    for path, command in _paths(root, ""):
        seen = " ".join([f"__fish_seen_subcommand_from {word};" for word in path.split()])
        where = _quoted(" and ".join(seen.rstrip(";").split("; ")) if seen else "__fish_use_subcommand")
        for each in command.commands:
            lines.append(f"complete -c {name} -n {where} -a {each.name} -d {_quoted(each.short)}")
        for flag in () if command is root else command.flags:
            lines.append(f"complete -c {name} -n {where} -l {flag.name} -d {_quoted(flag.usage)}")
    lines += [f"complete -c {name} -l {flag.name} -d {_quoted(flag.usage)}" for flag in root.flags]
    return "\n".join(lines) + "\n"


def powershell(root: Command) -> str:
    """Return the script for PowerShell."""
    cases = "\n".join([f"    '{path}' {{ '{_words(root, command)}' }}" for path, command in _paths(root, "")])
    return f"""# powershell completion for {root.name}
Register-ArgumentCompleter -Native -CommandName {root.name} -ScriptBlock {{
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


def script(root: Command, shell: str) -> str:
    """Return the script for a shell of SHELLS."""
    return {"bash": bash, "zsh": zsh, "fish": fish, "powershell": powershell}[shell](root)


def run(context: Context) -> None:
    """Print the script for a shell."""
    if len(context.args) != 1:
        raise bad_args(f"accepts 1 arg(s), received {len(context.args)}")
    if context.args[0] not in SHELLS:
        raise bad_args(f'invalid argument "{context.args[0]}" for "etcdctl completion"')
    context.print(script(context.path[0], context.args[0]))
