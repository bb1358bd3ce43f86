#!/usr/bin/env bash
# The rules of the house that no compiler knows: who may import whom, how long a file may be, what must not be left lying
# about. Plain text matching, kept simple on purpose: it reads code lines only, and skips test modules.
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0
complain() { printf '%s\n' "$1"; failed=1; }

# The code of a file in one line, without line comments and without test modules, so that a `use` over many lines is seen
# whole.
code() {
    awk '
        /^[ \t]*\/\// { next }
        /^[ \t]*#\[cfg\(test\)\]/ { held = 1; next }
        held && /^[ \t]*(pub(\([a-z]+\))? )?mod [a-z_]+ *\{/ { exit }
        { held = 0; printf "%s ", $0 }
    ' "$1"
}

# Every file of one floor, whether the floor is a folder or a single file.
floor_files() { find "src/$1" "src/$1.rs" -name '*.rs' ! -name tests.rs ! -path '*/tests/*' 2>/dev/null | sort; }

# floor, the floors it must not know
must_not_know() {
    local floor=$1 above file text
    shift
    above=$(IFS='|'; echo "$*")
    for file in $(floor_files "$floor"); do
        text=$(code "$file")
        # `crate::store::X`, and `crate::{lock::.., store::X}` up to the end of that statement.
        if printf '%s' "$text" | grep -qE "(crate|super)::($above)([^a-z_]|$)|(crate|super)::\{([^;]*[{, ])?($above)(::|,| |\})"; then
            complain "$file: the $floor floor imports from above or beside it (one of: $*)"
        fi
        # What lib.rs re-exports comes from every floor, so a name taken from there hides where it lives.
        if printf '%s' "$text" | grep -qE 'crate::[A-Z]|crate::\{([^;{}]*, *)?[A-Z]'; then
            complain "$file: imports a type through the crate root; name the floor it lives on"
        fi
    done
}

must_not_know lock request store locks respond middleware endpoint webdav batch client
must_not_know request store locks respond middleware endpoint webdav batch client
must_not_know store locks respond middleware endpoint webdav batch client
must_not_know locks respond middleware endpoint webdav batch client
must_not_know respond middleware endpoint webdav batch client
must_not_know middleware endpoint webdav batch client
must_not_know endpoint middleware webdav batch client
must_not_know webdav batch client
must_not_know batch webdav client
# For those at the other end of the connection: of all this it needs the words alone.
must_not_know client request store locks respond middleware endpoint webdav batch

for floor in locks respond middleware endpoint webdav batch; do
    for file in $(floor_files "$floor"); do
        if code "$file" | grep -qE 'MemoryStore|RedisStore|PostgresStore|store::(memory|redis|postgres)|store::\{[^;]*(memory|redis|postgres)::'; then
            complain "$file: names a concrete store; only the trait is known above src/store"
        fi
    done
done

for file in $(find src -name '*.rs' | sort); do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 700 ]; then complain "$file: $((lines)) lines, more than 700; one idea per file"; fi
done

# Everything that is or would be committed; in an unpacked archive without git, everything but the build.
tree() { git ls-files -co --exclude-standard 2>/dev/null || find . -type f ! -path './target/*' ! -path './.git/*'; }
search() { # complaint, pattern, file names
    local found
    found=$(tree | grep -E "$3" | while read -r f; do [ -f "$f" ] && grep -nHIE -e "$2" "$f"; done)
    if [ -n "$found" ]; then complain "$1:"; complain "$found"; fi
}

search 'unfinished or switched off' '(^|[^a-z_])(todo|unimplemented|dbg)!|#\[ignore|(FIX''ME|XX''X)([^A-Za-z]|$)' '\.rs$'

# Paths of whoever wrote it: the usual homes, and where this clone happens to lie.
here=$(pwd | sed 's/[][\.*^$+?(){}|]/\\&/g')
search 'absolute path of a machine' "(^|[^A-Za-z0-9_.~/-])(/Users/[a-z]+/|/home/[a-z]+/|/root/\.|$here(/|[^a-zA-Z0-9_-]|\$))" '.'

exit "$failed"
