// See plugin_store.h.
#include "store/plugin_store.h"

#include <dlfcn.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <set>
#include <string>

#include "base/assert.h"
#include "base/fd.h"
#include "farswap/store_plugin.h"

namespace farswap {
namespace {

constexpr std::size_t kMessageSize = 512;

/// What has been completed, by whatever thread, and waits for the loop. A stack through `next`, which is the
/// accepting layer's.
template <typename T>
class Completions {
  public:
    void push(T& item, int result) noexcept {
        item.cookie = static_cast<std::uint32_t>(result);
        T* head = head_.load(std::memory_order_relaxed);
        do item.next = head;
        while (
            !head_.compare_exchange_weak(head, &item, std::memory_order_release, std::memory_order_relaxed));
    }
    /// Calls back what is there, the oldest first. A callback may free its item, or submit it again.
    void run() noexcept {
        T* newest = head_.exchange(nullptr, std::memory_order_acquire);
        T* oldest = nullptr;
        while (newest != nullptr) {
            T* const before = newest->next;
            newest->next = oldest;
            oldest = newest;
            newest = before;
        }
        while (oldest != nullptr) {
            T& item = *oldest;
            oldest = item.next;
            item.complete(item, static_cast<int>(item.cookie));
        }
    }

  private:
    std::atomic<T*> head_{nullptr};
};

class Host final : public StoreHost {
  public:
    explicit Host(io::Loop& loop, Fd event) : loop_(loop), event_(std::move(event)) {
        watch_.fd = event_.get();
        watch_.owner = this;
        watch_.ready = [](io::Watch& watch, std::uint32_t) { static_cast<Host*>(watch.owner)->run(); };
        loop_.add(watch_);
    }
    ~Host() override { loop_.remove(watch_); }

    void complete(Request& request, int result) noexcept override {
        requests_.push(request, result);
        tell();
    }
    void complete(FlushRequest& flush, int result) noexcept override {
        flushes_.push(flush, result);
        tell();
    }
    void complete(ReserveRequest& reserve, int result) noexcept override {
        reserves_.push(reserve, result);
        tell();
    }

  private:
    void tell() noexcept {
        const std::uint64_t one = 1;
        // It fails only when 2^64 - 2 are waiting.
        [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);
    }
    void run() noexcept {
        // Before the lists: what is added behind our look at them tells us again.
        std::uint64_t count = 0;
        [[maybe_unused]] const auto read = ::read(event_.get(), &count, sizeof count);
        requests_.run();
        flushes_.run();
        reserves_.run();
    }

    io::Loop& loop_;
    Fd event_;
    io::Watch watch_;
    Completions<Request> requests_;
    Completions<FlushRequest> flushes_;
    Completions<ReserveRequest> reserves_;
};

struct Unload {
    void operator()(void* object) const noexcept { ::dlclose(object); }
};
using SharedObject = std::unique_ptr<void, Unload>;

class PluginStore final : public Store {
  public:
    PluginStore(SharedObject object, std::unique_ptr<Host> host, std::unique_ptr<Store> inner)
        : object_(std::move(object)), host_(std::move(host)), inner_(std::move(inner)) {}

    const std::string& name() const noexcept override { return inner_->name(); }
    std::uint64_t capacity() const noexcept override { return inner_->capacity(); }
    std::uint64_t reserved() const noexcept override { return inner_->reserved(); }
    std::uint32_t alignment() const noexcept override { return inner_->alignment(); }
    std::uint32_t transfer_max() const noexcept override { return inner_->transfer_max(); }
    std::uint32_t copies() const noexcept override { return inner_->copies(); }

    /// What every store must check: the object could not, for it has no pool.
    void submit(Request& request) noexcept override {
        const int valid = validate(request);
        const std::uint32_t unit = inner_->alignment();
        const bool inside =
            request.offset <= inner_->capacity() && request.length <= inner_->capacity() - request.offset;
        if (valid < 0 || !inside || request.offset % unit != 0 || request.length % unit != 0)
            host_->complete(request, valid < 0 ? valid : -EINVAL);
        else
            inner_->submit(request);
    }
    void flush(FlushRequest& flush) noexcept override { inner_->flush(flush); }
    void reserve(ReserveRequest& reserve) noexcept override { inner_->reserve(reserve); }
    void cancel(Request& request) noexcept override { inner_->cancel(request); }
    bool in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept override {
        return inner_->in_doubt(offset, length);
    }
    void close() noexcept override { inner_->close(); }
    Counters counters() const noexcept override { return inner_->counters(); }

  private:
    // Given up from the last to the first: the store, whose code is the object's, before that.
    SharedObject object_;
    std::unique_ptr<Host> host_;
    std::unique_ptr<Store> inner_;
};

/// Which parameters the object has asked for.
struct Parameters {
    const Url& url;
    mutable std::set<std::string> asked;
};

const char* parameter(const StorePluginOptions& options, const char* name) {
    const auto& parameters = *static_cast<const Parameters*>(options.owner);
    parameters.asked.insert(name);
    for (const auto& [key, value] : parameters.url.parameters)
        if (key == name) return value.c_str();
    return nullptr;
}

Status check_asked(const Parameters& parameters) {
    for (const auto& [key, value] : parameters.url.parameters)
        if (key != "size" && key != "prio" && !parameters.asked.contains(key))
            return fail(EINVAL, "'{}': the store does not know {}=", parameters.url.text, key);
    return {};
}

}  // namespace

Status check_plugin_url(const Url& url) {
    if (!url.path.starts_with('/'))
        return fail(EINVAL, "'{}': the path of the shared object begins with /", url.text);
    if (!url.parameter("size"))
        return fail(EINVAL, "'{}': say how much is to be stored, for example ?size=8G", url.text);
    if (const auto size = url.size(0); !size) return std::unexpected(size.error());
    return {};
}

Result<std::unique_ptr<Store>> open_plugin_store(const Url& url, io::Loop& loop) {
    if (Status known = check_plugin_url(url); !known) return std::unexpected(known.error());
    if (::getauxval(AT_SECURE) != 0)
        return fail(
            EPERM,
            "'{}': not loaded into a farswap that has more rights than you; use one without capabilities",
            url.text);
    SharedObject object(::dlopen(url.path.c_str(), RTLD_NOW | RTLD_LOCAL));
    if (!object) return fail(EINVAL, "'{}': cannot load it: {}", url.text, ::dlerror());
    const auto* version =
        static_cast<const std::uint32_t*>(::dlsym(object.get(), "farswap_store_plugin_version"));
    const auto open =
        reinterpret_cast<decltype(&farswap_open_store)>(::dlsym(object.get(), "farswap_open_store"));
    if (version == nullptr || open == nullptr)
        return fail(EINVAL, "'{}': it is no store: it lacks what farswap/store_plugin.h asks for", url.text);
    if (*version != kStorePluginVersion)
        return fail(
            EINVAL,
            "'{}': it was made for version {} of the interface, and this farswap has {}: compile it again",
            url.text, *version, kStorePluginVersion);
    Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event) return fail_errno(errno, "cannot make an eventfd");
    auto host = std::make_unique<Host>(loop, std::move(event));

    const Parameters parameters{.url = url, .asked = {}};
    const StorePluginOptions options{
        .url = url.text.c_str(), .size = *url.size(0), .parameter = &parameter, .owner = &parameters};
    std::array<char, kMessageSize> message{};
    errno = 0;
    std::unique_ptr<Store> inner(open(options, *host, message.data(), message.size()));
    const int code = errno != 0 ? errno : EIO;
    message.back() = '\0';
    if (!inner) return fail(code, "'{}': {}", url.text, message.data());
    if (Status asked = check_asked(parameters); !asked) {
        inner->close();
        return std::unexpected(asked.error());
    }
    return std::make_unique<PluginStore>(std::move(object), std::move(host), std::move(inner));
}

}  // namespace farswap
