// What an NFSv4.1 server answers to the control plane: the session of a Dialogue, and every call of Control4.
// Whatever it is, a call ends, with what it promises or with an error that says what failed.
#include "nfs_control_calls.h"
#include "store/nfs4_control.h"

using namespace farswap::nfs;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(std::as_bytes(std::span(data, size)));
    auto dialogue = v4::Dialogue::begin(input.connect(), Server{});
    if (!dialogue) {
        PROMISE(dialogue.error().code > 0);
        return 0;
    }
    Control4 control(std::move(*dialogue));
    input.run(control, true);
    return 0;
}
