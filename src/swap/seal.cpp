// Calls OpenSSL. See seal.h for what is sealed with what.
#include "swap/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/secret_memory.h"
#include "swap/key_memory.h"

namespace farswap {
namespace {

constexpr int kTagBytes = 8;
constexpr int kNonceBytes = 12;
constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kCipherBlockBytes = 16;
constexpr std::uint64_t kNoKey = ~std::uint64_t{0};

struct FreeContext {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;
struct FreeCipher {
    void operator()(EVP_CIPHER* cipher) const noexcept { EVP_CIPHER_free(cipher); }
};
using Cipher = std::unique_ptr<EVP_CIPHER, FreeCipher>;

template <typename T>
void put_big_endian(unsigned char* at, T value) noexcept {
    if constexpr (std::endian::native == std::endian::little)
        value = sizeof(T) == 4 ? static_cast<T>(__builtin_bswap32(static_cast<std::uint32_t>(value)))
                               : static_cast<T>(__builtin_bswap64(value));
    std::memcpy(at, &value, sizeof value);
}

/// What only this process may know.
struct Keys {
    unsigned char key[kKeyBytes];
    unsigned char derived[kKeyBytes];
    std::byte scratch[kPageSize];
};

/// What is authenticated besides the content.
struct Binding {
    unsigned char bytes[16 + 4 + 4 + 4];
};

}  // namespace

struct Sealer::State {
    Secret<Keys> secret = make_secret<Keys>();
    Cipher cipher;
    Context sealing, opening, deriving;
    std::uint64_t sealing_key = kNoKey, opening_key = kNoKey;  ///< which of the derived keys they have
    unsigned char job[16] = {};
    SealNumbers numbers{(SealNumber{1} << SealNumbers::kCounterBits) + 1};  ///< epoch 1
    Births births = nullptr;
    std::uint32_t born = 0;  ///< births() of this epoch

    bool start() noexcept;
    void follow_births() noexcept;
    void derive(std::uint64_t which) noexcept;
    EVP_CIPHER_CTX* begin(Context& context, std::uint64_t& has, bool seals, SealNumber number) noexcept;
    void bind(EVP_CIPHER_CTX* context, bool seals, SealPlace place, std::uint32_t length) const noexcept;
};

bool Sealer::State::start() noexcept {
    cipher.reset(EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr));
    const Cipher block(EVP_CIPHER_fetch(nullptr, "AES-256-ECB", nullptr));
    // From the kernel: OpenSSL's generators would leave expanded keys of their own on the heap.
    if (!cipher || !block || ::getrandom(job, sizeof job, 0) != ssize_t{sizeof job} ||
        ::getrandom(secret->key, kKeyBytes, 0) != ssize_t{kKeyBytes})
        return false;
    // What is allocated here is what has the expanded keys, now and after a change of the key.
    const KeyMemory::Use keys;
    sealing.reset(EVP_CIPHER_CTX_new());
    opening.reset(EVP_CIPHER_CTX_new());
    deriving.reset(EVP_CIPHER_CTX_new());
    return sealing && opening && deriving &&
           EVP_EncryptInit_ex(deriving.get(), block.get(), nullptr, secret->key, nullptr) == 1 &&
           EVP_EncryptInit_ex(sealing.get(), cipher.get(), nullptr, nullptr, nullptr) == 1 &&
           EVP_DecryptInit_ex(opening.get(), cipher.get(), nullptr, nullptr, nullptr) == 1;
}

/// Key number `which`: the first halves of two blocks each of encrypted counters, as RFC 8452 derives its
/// keys, which are not a permutation of anything and so cannot be told from random ones.
void Sealer::State::derive(std::uint64_t which) noexcept {
    for (std::uint32_t part = 0; part < kKeyBytes / 8; ++part) {
        unsigned char counter[kCipherBlockBytes] = {};
        unsigned char block[kCipherBlockBytes];
        put_big_endian(counter, part);
        put_big_endian(counter + 4, which);
        int written = 0;
        FARSWAP_ASSERT(EVP_EncryptUpdate(deriving.get(), block, &written, counter, sizeof counter) == 1);
        FARSWAP_ASSERT(written == static_cast<int>(kCipherBlockBytes));
        std::memcpy(secret->derived + std::size_t{part} * 8, block, 8);
        OPENSSL_cleanse(block, sizeof block);
    }
}

/// The context with the nonce, and with the key that is the number's.
EVP_CIPHER_CTX* Sealer::State::begin(Context& context, std::uint64_t& has, bool seals,
                                     SealNumber number) noexcept {
    FARSWAP_ASSERT(number != 0);
    const unsigned char* key = nullptr;
    if (const std::uint64_t which = number >> kKeyBits; which != has) {
        derive(which);
        key = secret->derived;
        has = which;
    }
    unsigned char nonce[kNonceBytes];
    put_big_endian(nonce, static_cast<std::uint32_t>(number >> SealNumbers::kCounterBits));
    put_big_endian(nonce + 4, std::uint64_t{static_cast<std::uint32_t>(number)});
    const int begun = seals ? EVP_EncryptInit_ex(context.get(), nullptr, nullptr, key, nonce)
                            : EVP_DecryptInit_ex(context.get(), nullptr, nullptr, key, nonce);
    FARSWAP_ASSERT(begun == 1);
    if (key != nullptr) OPENSSL_cleanse(secret->derived, kKeyBytes);
    return context.get();
}

void Sealer::State::bind(EVP_CIPHER_CTX* context, bool seals, SealPlace place,
                         std::uint32_t length) const noexcept {
    Binding binding;
    std::memcpy(binding.bytes, job, sizeof job);
    put_big_endian(binding.bytes + 16, place.store);
    put_big_endian(binding.bytes + 20, place.slot);
    put_big_endian(binding.bytes + 24, length);
    int written = 0;
    const int bound =
        seals ? EVP_EncryptUpdate(context, nullptr, &written, binding.bytes, sizeof binding.bytes)
              : EVP_DecryptUpdate(context, nullptr, &written, binding.bytes, sizeof binding.bytes);
    FARSWAP_ASSERT(bound == 1);
}

Sealer::Sealer(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Sealer::~Sealer() = default;

Result<std::unique_ptr<Sealer>> Sealer::create(Births births) {
    auto state = std::make_unique<State>();
    if (births != nullptr) state->births = births, state->born = births();
    const int error = state->secret == nullptr ? errno : KeyMemory::prepare();
    if (error != 0)
        return fail_errno(
            error,
            "cannot lock {} KiB of memory for the key that seals pages; raise the limit on locked "
            "memory (ulimit -l), or let pages leave in the clear (--seal off)",
            (sizeof(Keys) + KeyMemory::kBytes + 1023) / 1024);
    if (!state->start()) return fail(EIO, "OpenSSL gives no AES-256-GCM or no random key");
    std::unique_ptr<Sealer> sealer(new Sealer(std::move(state)));
    // The first key and all that OpenSSL makes at a first use.
    std::byte page[kPageSize] = {};
    const SealNumber number = sealer->next_number();
    const std::uint64_t tag = sealer->seal(number, {}, page, kPageSize, page);
    if (!sealer->open(number, {}, tag, page, kPageSize, page))
        return fail(EIO, "OpenSSL cannot open its own seal");
    return sealer;
}

/// An heir may be in the middle of a run of pages: what it seals under a number that its predecessor has
/// taken is what that would have sealed.
void Sealer::State::follow_births() noexcept {
    if (births == nullptr || births() == born) return;
    born = births();
    numbers.begin_epoch();
}

SealNumber Sealer::next_number() noexcept {
    state_->follow_births();
    return state_->numbers.take();
}

std::uint32_t Sealer::epoch() noexcept {
    state_->follow_births();
    return state_->numbers.epoch();
}

std::uint64_t Sealer::seal(SealNumber number, SealPlace place, const std::byte* plain, std::uint32_t length,
                           std::byte* sealed) noexcept {
    EVP_CIPHER_CTX* context = state_->begin(state_->sealing, state_->sealing_key, true, number);
    state_->bind(context, true, place, length);
    int written = 0;
    int rest = 0;
    auto* out = reinterpret_cast<unsigned char*>(sealed);
    std::uint64_t tag = 0;
    const bool done = EVP_EncryptUpdate(context, out, &written, reinterpret_cast<const unsigned char*>(plain),
                                        static_cast<int>(length)) == 1 &&
                      EVP_EncryptFinal_ex(context, out + written, &rest) == 1 &&
                      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagBytes, &tag) == 1;
    FARSWAP_ASSERT(done && written + rest == static_cast<int>(length));
    return tag;
}

bool Sealer::open(SealNumber number, SealPlace place, std::uint64_t tag, const std::byte* sealed,
                  std::uint32_t length, std::byte* plain) noexcept {
    EVP_CIPHER_CTX* context = state_->begin(state_->opening, state_->opening_key, false, number);
    state_->bind(context, false, place, length);
    int written = 0;
    int rest = 0;
    auto* out = reinterpret_cast<unsigned char*>(plain);
    const bool taken =
        EVP_DecryptUpdate(context, out, &written, reinterpret_cast<const unsigned char*>(sealed),
                          static_cast<int>(length)) == 1 &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagBytes, &tag) == 1;
    FARSWAP_ASSERT(taken && written == static_cast<int>(length));
    return EVP_DecryptFinal_ex(context, out + written, &rest) == 1;
}

std::uint64_t Sealer::tag_of(SealNumber number, SealPlace place, const std::byte* plain,
                             std::uint32_t length) noexcept {
    FARSWAP_ASSERT(length <= kPageSize);
    std::byte* scratch = state_->secret->scratch;
    const std::uint64_t tag = seal(number, place, plain, length, scratch);
    // A second text under one number would, with the first, give away both: it exists nowhere but here.
    OPENSSL_cleanse(scratch, length);
    return tag;
}

}  // namespace farswap
