// What a stranger sends to farswapd: nothing is granted but what the pager asks for, and every refusal is a
// short line.
#include "daemon/request.h"
#include "fuzz.h"

using namespace farswap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    for (int descriptors = 0; descriptors < 4; ++descriptors) {
        const auto request = daemon::parse_request(std::as_bytes(std::span(data, size)), descriptors);
        if (!request) {
            PROMISE(request.error().code > 0);
            PROMISE(request.error().message.size() < sizeof target::HelperReply::text);
            PROMISE(request.error().message.find('\n') == std::string::npos);
            continue;
        }
        PROMISE(size == sizeof *request && request->version == target::kHelperVersion);
        const bool wants_device = request->kind == target::HelperRequestKind::kDevice;
        PROMISE(wants_device || request->kind == target::HelperRequestKind::kEnable);
        PROMISE(descriptors == (wants_device ? 0 : 1));
        PROMISE((request->features & ~target::kUffdFeatures) == 0);
        PROMISE(wants_device == (request->features == 0));
    }
    return 0;
}
