#!/bin/bash
# Installs into an empty folder; then the program must start there, and a C program must build against the
# installed headers and library by pkg-config and pin a page.
# Usage: check_install.sh CMAKE BUILD_DIR C_COMPILER
set -euo pipefail
cmake=$1 build=$2 cc=$3
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

"$cmake" --install "$build" --prefix "$prefix" >/dev/null
"$prefix/bin/farswap" --version

cat >"$prefix/user.c" <<'END'
#include <farswap/kernel_pages.h>
#include <stdio.h>

int main(void) {
    struct farswap_pool *pool = farswap_pool_create(1, 0);
    struct kvec segment = {pool ? farswap_pool_alloc(pool) : NULL, 4096};
    struct page *pin;
    if (!segment.iov_base || get_kernel_pages(&segment, 1, 1, &pin) != 1) return 1;
    put_page(pin);
    farswap_pool_free(pool, segment.iov_base);
    puts("a page was pinned and put");
    return farswap_pool_destroy(pool) != 0;
}
END
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name farswap-pages.pc)")
# shellcheck disable=SC2046  # flags are words
"$cc" -std=c11 -Wall -Werror "$prefix/user.c" -o "$prefix/user" $(pkg-config --cflags --libs farswap-pages)
"$prefix/user"
