// Looks for AES-256 keys in the memory of processes: by their expanded form, 15 round keys in a row, each of
// which follows from those before (FIPS 197, 5.2), and by the key itself and by each round key where that was
// found in any of them. Knows no key beforehand.
//
// find_keys PID...: prints "schedule|key|round PID ADDRESS FLAGS NAME" for each, FLAGS being the VmFlags of
// its mapping. A round key, of 16 bytes, that is no part of a schedule is what was in a register. One of the
// processes may end meanwhile, or have no memory any more.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "target/uapi.h"

namespace {

constexpr std::size_t kWords = 60;  // of 4 bytes, for 14 rounds
constexpr std::size_t kRoundBytes = 16;
using Key = std::array<unsigned char, 32>;

struct Mapping {
    std::uint64_t start = 0, end = 0;
    std::string name, flags;
};

/// The S-box from its definition: the inverse in GF(2^8), then an affine map.
std::array<unsigned char, 256> make_box() {
    std::array<unsigned char, 256> box{};
    unsigned char p = 1, q = 1;
    do {
        p = static_cast<unsigned char>(p ^ (p << 1) ^ ((p & 0x80) != 0 ? 0x1b : 0));
        q = static_cast<unsigned char>(q ^ (q << 1));
        q = static_cast<unsigned char>(q ^ (q << 2));
        q = static_cast<unsigned char>(q ^ (q << 4));
        if ((q & 0x80) != 0) q ^= 0x09;
        const auto turned = [q](int by) { return static_cast<unsigned char>(q << by | q >> (8 - by)); };
        box[p] = static_cast<unsigned char>(q ^ turned(1) ^ turned(2) ^ turned(3) ^ turned(4) ^ 0x63);
    } while (p != 1);
    box[0] = 0x63;
    return box;
}

const std::array<unsigned char, 256> kBox = make_box();

std::uint64_t word_at(const unsigned char* at) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    return word;
}

bool is_schedule(const unsigned char* at) {
    unsigned char round = 1;
    for (std::size_t word = 8; word < kWords; word++) {
        std::array<unsigned char, 4> last;
        std::memcpy(last.data(), at + (word - 1) * 4, 4);
        if (word % 8 == 0) {
            last = {static_cast<unsigned char>(kBox[last[1]] ^ round), kBox[last[2]], kBox[last[3]],
                    kBox[last[0]]};
            round = static_cast<unsigned char>(round << 1);
        } else if (word % 8 == 4) {
            for (unsigned char& byte : last) byte = kBox[byte];
        }
        for (std::size_t i = 0; i < 4; i++)
            if (at[word * 4 + i] != (at[(word - 8) * 4 + i] ^ last[i])) return false;
    }
    return true;
}

std::vector<Mapping> mappings_of(const std::string& process) {
    std::vector<Mapping> mappings;
    std::ifstream file("/proc/" + process + "/smaps");
    for (std::string line; std::getline(file, line);) {
        unsigned long start = 0, end = 0;
        char read = 0;
        int behind = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx %c%*s %*s %*s %*s %n", &start, &end, &read, &behind) >= 3) {
            mappings.push_back(
                {start, read == 'r' ? end : start, line.substr(static_cast<std::size_t>(behind)), ""});
        } else if (line.starts_with("VmFlags:") && !mappings.empty()) {
            mappings.back().flags = line.substr(8);
        }
    }
    return mappings;
}

/// What of [start, end) is in memory and no page of zeros that all share: a pager's mappings are mostly
/// empty. All of it where the kernel does not tell (Linux 6.7, PAGEMAP_SCAN).
std::vector<std::pair<std::uint64_t, std::uint64_t>> present_in(int pagemap, std::uint64_t start,
                                                                std::uint64_t end) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> found;
    while (start < end) {
        std::array<page_region, 64> regions;
        pm_scan_arg scan{};
        scan.size = sizeof scan;
        scan.start = start;
        scan.end = end;
        scan.vec = reinterpret_cast<std::uintptr_t>(regions.data());
        scan.vec_len = regions.size();
        scan.category_inverted = scan.category_mask = PAGE_IS_PFNZERO;
        scan.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
        scan.return_mask = PAGE_IS_PRESENT;
        const int count = ::ioctl(pagemap, PAGEMAP_SCAN, &scan);
        if (count < 0) {
            found.emplace_back(start, end);
            break;
        }
        for (int i = 0; i < count; i++) found.emplace_back(regions[i].start, regions[i].end);
        start = scan.walk_end;
    }
    return found;
}

/// The memory of a process.
struct Memory {
    int bytes = -1, pagemap = -1;
};

/// Calls look(address, bytes) for each piece of the mapping that can be read; pieces overlap by a schedule.
template <typename Look>
void for_each_piece(const Memory& memory, const Mapping& mapping, Look look) {
    constexpr std::size_t kPiece = 1 << 20, kOverlap = 4096;
    static std::vector<unsigned char> bytes(kPiece + kOverlap);
    for (const auto& [start, end] : present_in(memory.pagemap, mapping.start, mapping.end)) {
        for (std::uint64_t at = start; at < end; at += kPiece) {
            const std::size_t wanted = std::min<std::uint64_t>(kPiece + kOverlap, end - at);
            const ssize_t got = ::pread(memory.bytes, bytes.data(), wanted, static_cast<off_t>(at));
            if (got > 0) look(at, bytes.data(), static_cast<std::size_t>(got));
        }
    }
}

/// What is known of all of them.
struct Keys {
    std::set<Key> whole;
    std::map<std::uint64_t, std::uint64_t> rounds;  ///< both halves of each round key
};

/// One process, and where keys lie in it.
class Searched {
  public:
    explicit Searched(const std::string& process)
        : process_(process),
          memory_{::open(("/proc/" + process + "/mem").c_str(), O_RDONLY | O_CLOEXEC),
                  ::open(("/proc/" + process + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC)},
          mappings_(mappings_of(process)) {}

    bool is_open() const { return memory_.bytes >= 0 && memory_.pagemap >= 0; }

    void look_for_schedules(Keys& keys) {
        for (const Mapping& mapping : mappings_) {
            for_each_piece(memory_, mapping,
                           [&](std::uint64_t start, const unsigned char* bytes, std::size_t length) {
                               for (std::size_t i = 0; i + kWords * 4 <= length; i += 4) {
                                   if (!is_schedule(bytes + i) || !schedules_.insert(start + i).second)
                                       continue;
                                   Key key;
                                   std::memcpy(key.data(), bytes + i, key.size());
                                   keys.whole.insert(key);
                                   for (std::size_t at = 0; at < kWords * 4; at += kRoundBytes)
                                       keys.rounds[word_at(bytes + i + at)] = word_at(bytes + i + at + 8);
                                   print("schedule", start + i, mapping);
                               }
                           });
        }
    }

    void look_for_keys(const Keys& keys) {
        for (const Mapping& mapping : mappings_) {
            std::set<std::uint64_t> seen;
            for_each_piece(
                memory_, mapping, [&](std::uint64_t start, const unsigned char* bytes, std::size_t length) {
                    for (const Key& key : keys.whole) {
                        const unsigned char* at = bytes;
                        const unsigned char* const end = bytes + length;
                        while ((at = static_cast<const unsigned char*>(::memmem(
                                    at, static_cast<std::size_t>(end - at), key.data(), key.size()))) !=
                               nullptr) {
                            const std::uint64_t address = start + static_cast<std::uint64_t>(at - bytes);
                            if (!schedules_.contains(address) && seen.insert(address).second)
                                print("key", address, mapping);
                            keys_.insert({address, address + kRoundBytes});
                            at++;
                        }
                    }
                });
        }
    }

    void look_for_rounds(const Keys& keys) {
        // Most bytes are told from round keys by the first two of them.
        std::vector<bool> begins(1 << 16);
        for (const auto& [first, second] : keys.rounds) begins[first & 0xffff] = true;
        for (const Mapping& mapping : mappings_) {
            std::set<std::uint64_t> seen;
            for_each_piece(memory_, mapping,
                           [&](std::uint64_t start, const unsigned char* bytes, std::size_t length) {
                               for (std::size_t i = 0; i + kRoundBytes <= length; i += 4) {
                                   const std::uint64_t first = word_at(bytes + i);
                                   if (!begins[first & 0xffff]) continue;
                                   const auto found = keys.rounds.find(first);
                                   if (found == keys.rounds.end() || found->second != word_at(bytes + i + 8))
                                       continue;
                                   if (is_in_schedule(start + i) || keys_.contains(start + i)) continue;
                                   if (seen.insert(start + i).second) print("round", start + i, mapping);
                               }
                           });
        }
    }

  private:
    bool is_in_schedule(std::uint64_t address) const {
        const auto behind = schedules_.upper_bound(address);
        return behind != schedules_.begin() && address - *std::prev(behind) < kWords * 4;
    }

    void print(const char* what, std::uint64_t at, const Mapping& mapping) const {
        std::printf("%s %s %lx%s %s\n", what, process_.c_str(), static_cast<unsigned long>(at),
                    mapping.flags.c_str(), mapping.name.empty() ? "anonymous" : mapping.name.c_str());
    }

    std::string process_;
    Memory memory_;
    std::vector<Mapping> mappings_;
    std::set<std::uint64_t> schedules_;
    std::set<std::uint64_t> keys_;  ///< both round keys that a key begins with
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    std::vector<Searched> all;
    for (int i = 1; i < argc; i++) {
        all.emplace_back(argv[i]);
        if (all.back().is_open()) continue;
        std::perror("find_keys: the memory of the process");
        return 1;
    }
    Keys keys;
    for (Searched& process : all) process.look_for_schedules(keys);
    for (Searched& process : all) process.look_for_keys(keys);
    for (Searched& process : all) process.look_for_rounds(keys);
    return 0;
}
