// Looks for AES-256 keys in the memory of a process: by their expanded form, 15 round keys in a row, each of
// which follows from those before (FIPS 197, 5.2), and by the key itself and by each round key where that was
// found. Knows no key beforehand.
//
// find_keys PID: prints "schedule|key|round ADDRESS FLAGS NAME" for each, FLAGS being the VmFlags of its
// mapping. A round key, of 16 bytes, that is no part of a schedule is what was in a register.
#include <fcntl.h>
#include <unistd.h>

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
#include <vector>

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

/// Calls look(address, bytes) for each piece of the mapping that can be read; pieces overlap by a schedule.
template <typename Look>
void for_each_piece(int memory, const Mapping& mapping, Look look) {
    constexpr std::size_t kPiece = 1 << 20, kOverlap = 4096;
    static std::vector<unsigned char> bytes(kPiece + kOverlap);
    for (std::uint64_t at = mapping.start; at < mapping.end; at += kPiece) {
        const std::size_t wanted = std::min<std::uint64_t>(kPiece + kOverlap, mapping.end - at);
        const ssize_t got = ::pread(memory, bytes.data(), wanted, static_cast<off_t>(at));
        if (got > 0) look(at, bytes.data(), static_cast<std::size_t>(got));
    }
}

void print(const char* what, std::uint64_t at, const Mapping& mapping) {
    std::printf("%s %lx%s %s\n", what, static_cast<unsigned long>(at), mapping.flags.c_str(),
                mapping.name.empty() ? "anonymous" : mapping.name.c_str());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    const std::string process = argv[1];
    const int memory = ::open(("/proc/" + process + "/mem").c_str(), O_RDONLY | O_CLOEXEC);
    if (memory < 0) {
        std::perror("find_keys: the memory of the process");
        return 1;
    }
    const auto mappings = mappings_of(process);
    std::set<std::uint64_t> schedules;
    std::set<Key> keys;
    std::map<std::uint64_t, std::uint64_t> rounds;  // both halves of each round key
    for (const Mapping& mapping : mappings) {
        for_each_piece(memory, mapping,
                       [&](std::uint64_t start, const unsigned char* bytes, std::size_t length) {
                           for (std::size_t i = 0; i + kWords * 4 <= length; i += 4) {
                               if (!is_schedule(bytes + i) || !schedules.insert(start + i).second) continue;
                               Key key;
                               std::memcpy(key.data(), bytes + i, key.size());
                               keys.insert(key);
                               for (std::size_t at = 0; at < kWords * 4; at += kRoundBytes)
                                   rounds[word_at(bytes + i + at)] = word_at(bytes + i + at + 8);
                               print("schedule", start + i, mapping);
                           }
                       });
    }
    std::set<std::uint64_t> keys_at;  // both round keys that a key begins with
    for (const Mapping& mapping : mappings) {
        std::set<std::uint64_t> seen;
        for_each_piece(
            memory, mapping, [&](std::uint64_t start, const unsigned char* bytes, std::size_t length) {
                for (const Key& key : keys) {
                    const unsigned char* at = bytes;
                    const unsigned char* const end = bytes + length;
                    while ((at = static_cast<const unsigned char*>(
                                ::memmem(at, static_cast<std::size_t>(end - at), key.data(), key.size()))) !=
                           nullptr) {
                        const std::uint64_t address = start + static_cast<std::uint64_t>(at - bytes);
                        if (!schedules.contains(address) && seen.insert(address).second)
                            print("key", address, mapping);
                        keys_at.insert({address, address + kRoundBytes});
                        at++;
                    }
                }
            });
    }
    // Most bytes are told from round keys by the first two of them.
    std::vector<bool> begins(1 << 16);
    for (const auto& [first, second] : rounds) begins[first & 0xffff] = true;
    const auto is_in_schedule = [&](std::uint64_t address) {
        const auto behind = schedules.upper_bound(address);
        return behind != schedules.begin() && address - *std::prev(behind) < kWords * 4;
    };
    for (const Mapping& mapping : mappings) {
        std::set<std::uint64_t> seen;
        for_each_piece(memory, mapping,
                       [&](std::uint64_t start, const unsigned char* bytes, std::size_t length) {
                           for (std::size_t i = 0; i + kRoundBytes <= length; i += 4) {
                               const std::uint64_t first = word_at(bytes + i);
                               if (!begins[first & 0xffff]) continue;
                               const auto found = rounds.find(first);
                               if (found == rounds.end() || found->second != word_at(bytes + i + 8)) continue;
                               if (is_in_schedule(start + i) || keys_at.contains(start + i)) continue;
                               if (seen.insert(start + i).second) print("round", start + i, mapping);
                           }
                       });
    }
    return 0;
}
