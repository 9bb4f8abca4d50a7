# Completion of bash for @NAME@, with the package bash-completion or without it.

_@NAME@_options() {
    case $1 in
@OPTIONS@
    esac
}

# What the value of an option is, "COMMAND:OPTION", or an argument, "COMMAND:": FILE, URL, PID, or "words" and what to choose from.
_@NAME@_value() {
    case $1 in
@VALUES@
    esac
}

_@NAME@_processes() {
    (cd /proc && echo [0-9]*)
}

# What follows the options of some commands: a command line of its own, from word $1 on.
_@NAME@_program() {
    if declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    elif ((COMP_CWORD == $1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")
    else
        compopt -o default 2>/dev/null
    fi
}

_@NAME@() {
    local commands="@COMMANDS@" programs=" @PROGRAMS@ " command=@NAME@ cur=${COMP_WORDS[COMP_CWORD]} i=1 word kind option=
    COMPREPLY=()
    if [[ $commands ]]; then
        if ((COMP_CWORD == 1)); then
            mapfile -t COMPREPLY < <(compgen -W "$commands --help --version" -- "$cur")
            return
        fi
        command=${COMP_WORDS[1]} i=2
    fi
    # Bash makes words of their own of "=" and ":", so that a value can be several: --swap file : /path. `option` is the one whose
    # value the word at the cursor belongs to.
    local value= last_was_option=
    for (( ; i < COMP_CWORD; ++i)); do
        word=${COMP_WORDS[i]}
        if [[ $last_was_option ]]; then
            [[ $word == = ]] && continue
            last_was_option='' value=$word
        elif [[ $value && ($word == : || $value == *:) ]]; then
            value+=$word
        elif [[ $word == -- ]]; then
            option='' value=''
            [[ $programs == *" $command "* ]] && { _@NAME@_program $((i + 1)); return; }
        elif [[ $word == -* ]]; then
            option='' value=''
            [[ $(_@NAME@_value "$command:$word") ]] && option=$word last_was_option=yes
        else
            option='' value=$word
            [[ $programs == *" $command "* ]] && { _@NAME@_program "$i"; return; }
        fi
    done
    [[ $cur == = ]] && cur=
    if [[ $value == *: || ($value && $cur == :) ]]; then
        : # still the value before
    elif [[ ! $last_was_option ]]; then
        option='' value=''
    fi
    kind=$(_@NAME@_value "$command:$option")
    if [[ ! $option && $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_@NAME@_options "$command")" -- "$cur")
        return
    fi
    case $kind in
        FILE) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        URL)
            if [[ $value == file: || $value$cur == file: ]]; then
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -f -- "${cur#:}")
            elif [[ ! $value ]]; then
                compopt -o nospace 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -W "file: nfs:// nbd:// none" -- "$cur")
            fi
            ;;
        PID) mapfile -t COMPREPLY < <(compgen -W "$(_@NAME@_processes)" -- "$cur") ;;
        words*) mapfile -t COMPREPLY < <(compgen -W "${kind#words}" -- "$cur") ;;
        *)
            [[ $programs == *" $command "* ]] && _@NAME@_program "$COMP_CWORD"
            if [[ " @PROCESSES@ " == *" $command "* ]]; then
                mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$(_@NAME@_processes)" -- "$cur")
            fi
            ;;
    esac
}

complete -F _@NAME@ @NAME@
