// Chooses the engine. See engine.h.
#include "io/engine.h"

#include <cstdlib>
#include <string_view>

#include "base/log.h"
#include "io/epoll_engine.h"
#include "io/ring.h"
#include "io/uring_engine.h"

namespace farswap::io {

namespace {

constexpr const char* kVariable = "FARSWAP_IO_ENGINE";

}  // namespace

const char* name_of(EngineKind kind) noexcept {
    return kind == EngineKind::kIoUring ? "io_uring" : "epoll";
}

Result<std::optional<EngineKind>> engine_asked_for() {
    const char* value = std::getenv(kVariable);
    if (value == nullptr || *value == '\0') return std::nullopt;
    for (const EngineKind kind : {EngineKind::kIoUring, EngineKind::kEpoll})
        if (std::string_view(value) == name_of(kind)) return kind;
    return fail(EINVAL, "{}={} names no engine: set it to io_uring or epoll, or unset it", kVariable, value);
}

int try_io_uring() {
    Ring ring;
    const Status usable = ring.init(2, 4, false);
    return usable ? 0 : usable.error().code;
}

bool is_refusal(int error) noexcept {
    return error == EPERM || error == EACCES || error == ENOSYS;
}

Result<std::unique_ptr<Engine>> make_engine(const LoopOptions& options) {
    std::optional<EngineKind> wanted = options.engine;
    if (!wanted) {
        const auto asked = engine_asked_for();
        if (!asked) return std::unexpected(asked.error());
        wanted = *asked;
    }
    if (wanted != EngineKind::kEpoll) {
        auto uring = UringEngine::make(options);
        if (uring || wanted || !is_refusal(uring.error().code)) return uring;
        log::info("io_uring is refused here ({}): epoll serves", ::strerrordesc_np(uring.error().code));
    }
    return EpollEngine::make(options);
}

}  // namespace farswap::io
