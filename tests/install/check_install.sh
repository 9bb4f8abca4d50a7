#!/bin/bash
# Installs into an empty folder, and moves it; then the program must start there, and C and C++ programs must build
# against the installed headers and libraries, by pkg-config and by CMake's find_package, and pin a page.
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
    said=$(systemd-analyze verify --man=no "$units/farswapd.socket" "$units/farswapd-budget.socket" "$units/farswapd.service" 2>&1) || { echo "$said"; exit 1; }
    # Of other units of this machine it may speak, too.
    if grep farswapd <<<"$said"; then exit 1; fi
fi

# The example is in order, as it is and with all of it switched on.
example=$prefix/moved/share/doc/farswap/examples/farswapd.toml
"$prefix/moved/sbin/farswapd" --check-config "$example"
sed 's/^#\([[a-z]\)/\1/; s/"sim"/"root"/; s/"guests"/"root"/' "$example" >"$prefix/all.toml"
"$prefix/moved/sbin/farswapd" --check-config "$prefix/all.toml" | grep 'a budget of'

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

libraries=$(dirname "$(find "$prefix/moved" -name libfarswap.a)")
export PKG_CONFIG_PATH=$libraries/pkgconfig
# How programs are linked: with the shared library, which is then found at run time, or with the static one.
shared=$(pkg-config --cflags --libs farswap)
static="$(pkg-config --cflags farswap) $libraries/libfarswap.a $(pkg-config --libs --static farswap | sed 's/-lfarswap //')"
for flags in "$shared" "$static"; do
    # shellcheck disable=SC2086  # flags are words
    "$cc" -std=c11 -Wall -Werror "$prefix/user.c" -o "$prefix/user" $flags
    LD_LIBRARY_PATH=$libraries "$prefix/user"
    for standard in c++17 c++23; do
        # shellcheck disable=SC2086
        "$cxx" -std=$standard -Wall -Wextra -Werror "$prefix/user.cpp" -o "$prefix/user" $flags
        LD_LIBRARY_PATH=$libraries "$prefix/user"
    done
done
# Memory that may exceed RAM: the example, outside of the tree that it comes with.
cp "$(dirname "$0")/../../examples/far_vector.cpp" "$prefix"
# shellcheck disable=SC2046  # flags are words
"$cxx" -std=c++17 -Wall -Wextra -Werror "$prefix/far_vector.cpp" -o "$prefix/far_vector" $(pkg-config --cflags --libs farswap-memory)
LD_LIBRARY_PATH=$libraries "$prefix/far_vector" 40 20
if nm -DC --defined-only "$libraries/libfarswap_memory.so" | grep -v farswap::FarMemory | grep farswap::; then exit 1; fi
readelf -d "$libraries/libfarswap.so" | grep -q 'SONAME.*libfarswap\.so\.0\]'
nm -D --defined-only "$libraries/libfarswap.so" | grep -qw get_kernel_pages
if nm -DC --defined-only "$libraries/libfarswap.so" | grep -v farswap::validate | grep farswap::; then exit 1; fi # what is inside

cat >"$prefix/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(user C CXX)
find_package(farswap 0.1 REQUIRED)
add_executable(by_c user.c)
add_executable(by_cpp user.cpp)
add_executable(by_static user.cpp)
target_link_libraries(by_c farswap::farswap)
target_link_libraries(by_cpp farswap::farswap)
target_link_libraries(by_static farswap::farswap_static)
add_executable(far_vector far_vector.cpp)
target_link_libraries(far_vector farswap::memory)
END
"$cmake" -S "$prefix" -B "$prefix/build" -D CMAKE_PREFIX_PATH="$prefix/moved" -D CMAKE_C_COMPILER="$cc" -D CMAKE_CXX_COMPILER="$cxx" >/dev/null
"$cmake" --build "$prefix/build" >/dev/null
for program in by_c by_cpp by_static; do "$prefix/build/$program"; done

# Where the shells and man(1) look.
share=$prefix/moved/share
for file in bash-completion/completions/farswap zsh/site-functions/_farswap fish/vendor_completions.d/farswap.fish man/man8/farswapd.8 \
    doc/farswap/stores.md; do
    [[ -s $share/$file ]] || { echo "there is no share/$file"; exit 1; }
done
man -M "$share/man" -w farswap-run >/dev/null
