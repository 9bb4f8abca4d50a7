#!/bin/bash
# Installs into an empty folder, and moves it; then the program must start there, and a C and a C++ program must build
# against the installed headers and library by pkg-config and pin a page.
# Usage: check_install.sh CMAKE BUILD_DIR C_COMPILER CXX_COMPILER
set -euo pipefail
cmake=$1 build=$2 cc=$3 cxx=$4
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

"$cmake" --install "$build" --prefix "$prefix/first" >/dev/null
mv "$prefix/first" "$prefix/moved"
"$prefix/moved/bin/farswap" --version
"$prefix/moved/sbin/farswapd" --version

# systemd itself looks at its units, where it is there to be asked.
units=$prefix/moved/lib/systemd/system
grep -q "^ExecStart=$prefix/first/sbin/farswapd" "$units/farswapd.service"
sed -i "s|$prefix/first|$prefix/moved|" "$units/farswapd.service"
if command -v systemd-analyze >/dev/null; then
    said=$(systemd-analyze verify --man=no "$units/farswapd.socket" "$units/farswapd.service" 2>&1) || { echo "$said"; exit 1; }
    # Of other units of this machine it may speak, too.
    if grep farswapd <<<"$said"; then exit 1; fi
fi

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

# Every public header, and a request whose pins are checked.
for header in "$prefix"/moved/include/farswap/*.h; do echo "#include <farswap/${header##*/}>"; done >"$prefix/user.cpp"
cat >>"$prefix/user.cpp" <<'END'
#include <cstdio>

int main() {
    farswap_pool* pool = farswap_pool_create(1, 0);
    void* const frame = pool ? farswap_pool_alloc(pool) : nullptr;
    page* pin = nullptr;
    if (!frame || get_kernel_page(reinterpret_cast<unsigned long>(frame), 1, &pin) != 1) return 1;
    farswap::Request request;
    request.op = farswap::KERNEL_READ;
    request.data = static_cast<std::byte*>(frame);
    request.length = farswap::kPageSize;
    request.pages = &pin;
    request.page_count = 1;
    request.complete = [](farswap::Request&, int) {};
    const int pinned = farswap::validate(request);
    put_page(pin);
    const int put = farswap::validate(request);
    farswap_pool_free(pool, frame);
    std::puts("a request with its page pinned is valid, and without it is not");
    return pinned == 0 && put < 0 && farswap_pool_destroy(pool) == 0 ? 0 : 1;
}
END
for standard in c++17 c++23; do
    # shellcheck disable=SC2046
    "$cxx" -std=$standard -Wall -Wextra -Werror "$prefix/user.cpp" -o "$prefix/user" $(pkg-config --cflags --libs farswap-pages)
    "$prefix/user"
done
