# Completion of fish for farswap.

# The words behind `farswap` up to the cursor, without the one that is being written.
function __farswap_words
    set -l words (commandline -opc)
    set -e words[1]
    string join \n -- $words
end

function __farswap_no_command
    test (count (__farswap_words)) = 0
end

# Prints which word begins the program that a command runs; fails while there are options only.
function __farswap_program_at
    set -l words (__farswap_words)
    set -l with_value
    switch "$words[1]"
@CASES@
    end
    set -l skip no
    for i in (seq 2 (count $words))
        if test $skip = yes
            set skip no
        else if test "$words[$i]" = --
            echo (math $i + 1)
            return 0
        else if contains -- "$words[$i]" $with_value
            set skip yes
        else if not string match -q -- '-*' "$words[$i]"
            echo $i
            return 0
        end
    end
    return 1
end

function __farswap_runs_a_program
    contains -- (__farswap_words)[1] @PROGRAMS@
end

function __farswap_options_of
    set -l words (__farswap_words)
    test "$words[1]" = $argv[1]; or return 1
    __farswap_runs_a_program; or return 0
    not __farswap_program_at >/dev/null
end

# What follows is completed as a command line of its own.
function __farswap_program
    set -l words (__farswap_words)
    set -l current (commandline -ct)
    set -l line
    if set -l at (__farswap_program_at)
        for word in $words[$at..-1]
            set -a line (string escape -- $word)
        end
    else if string match -q -- '-*' "$current"
        return
    end
    complete -C (string join ' ' -- $line "$current")
end

function __farswap_urls
    switch (commandline -ct)
        case '*file:*'
            set -l path (string replace -r '^.*file:' '' -- (commandline -ct))
            for found in $path*
                test -d $found; and set found $found/
                echo (string replace -r 'file:.*' 'file:' -- (commandline -ct))$found
            end
        case '*'
            printf '%s\n' file: nfs:// nbd:// none
    end
end

complete -c farswap -f
complete -c farswap -n __farswap_no_command -l help -s h -d 'The commands'
complete -c farswap -n __farswap_no_command -l version -d 'The version'
complete -c farswap -n __farswap_runs_a_program -xa '(__farswap_program)'
