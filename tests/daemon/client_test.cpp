// One client at a time, as pagers are and as they should not be.
#include "daemon/client.h"

#include <sys/eventfd.h>
#include <sys/mman.h>

#include "daemon_fixture.h"

namespace farswap::daemon {
namespace {

using target::HelperRequest;
using target::HelperRequestKind;
using testing::HasSubstr;

const Peer kPeer{.process = 123, .user = 1000, .group = 1000, .groups = {}};
const HelperRequest kEnable{.kind = HelperRequestKind::kEnable, .features = target::kUffdFeatures};

Answer serve_message(const void* bytes, std::size_t size, int descriptor) {
    const Pair pair;
    EXPECT_EQ(send_message(pair.client.get(), bytes, size, descriptor), 0);
    serve(pair.server.get(), kPeer, open_device());
    return receive_answer(pair.client.get());
}

Answer serve_request(const HelperRequest& request, const Fd& descriptor = Fd()) {
    return serve_message(&request, sizeof request, descriptor.get());
}

void expect_refusal(const Answer& answer, int code, const std::string& words) {
    ASSERT_TRUE(answer.came);
    EXPECT_EQ(answer.reply.error, code);
    const std::string text = answer.reply.text;
    EXPECT_THAT(text, HasSubstr(words));
    EXPECT_EQ(text.find('\n'), std::string::npos);
    EXPECT_FALSE(answer.descriptor);
}

TEST(Client, GetsADeviceThatMakesUserfaultfds) {
    const auto answer = serve_request({.kind = HelperRequestKind::kDevice});
    ASSERT_TRUE(answer.came);
    EXPECT_EQ(answer.reply.error, 0) << answer.reply.text;
    ASSERT_TRUE(answer.descriptor);
    EXPECT_TRUE(Fd(ioctl(answer.descriptor.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC)));
}

TEST(Client, GetsTheForkEventForItsUserfaultfd) {
    const Fd uffd = new_userfaultfd();
    ASSERT_FALSE(is_enabled(uffd));
    const auto answer = serve_request(kEnable, uffd);
    ASSERT_TRUE(answer.came);
    EXPECT_EQ(answer.reply.error, 0) << answer.reply.text;
    EXPECT_EQ(answer.reply.features & target::kUffdFeatures, target::kUffdFeatures);
    EXPECT_NE(answer.reply.ioctls & (1 << _UFFDIO_REGISTER), 0u);
    EXPECT_FALSE(answer.descriptor);
    EXPECT_TRUE(is_enabled(uffd));
}

TEST(Client, OnlyAUserfaultfdIsTouched) {
    const char* name = "anon_inode:[userfaultfd]";
    char folder[] = "/tmp/farswapd-name-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    const std::string file = std::string(folder) + "/" + name;
    const Fd others[] = {Fd(open("/dev/null", O_RDWR | O_CLOEXEC)), Fd(eventfd(0, EFD_CLOEXEC)),
                         Fd(memfd_create(name, MFD_CLOEXEC)),
                         Fd(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)), open_device()};
    for (const Fd& other : others) {
        ASSERT_TRUE(other);
        expect_refusal(serve_request(kEnable, other), EINVAL, "not a userfaultfd");
    }
    std::filesystem::remove_all(folder);
}

TEST(Client, AUserfaultfdThatIsInUseIsLeftAlone) {
    const Fd uffd = new_userfaultfd();
    uffdio_api api{.api = UFFD_API, .features = UFFD_FEATURE_EVENT_UNMAP, .ioctls = 0};
    ASSERT_EQ(ioctl(uffd.get(), UFFDIO_API, &api), 0);
    expect_refusal(serve_request(kEnable, uffd), EBUSY, "in use already");
}

TEST(Client, ARefusedUserfaultfdIsAsItWas) {
    const Fd uffd = new_userfaultfd();
    HelperRequest request = kEnable;
    request.features |= UFFD_FEATURE_SIGBUS;
    expect_refusal(serve_request(request, uffd), EPERM, "not handed out");
    request.features = UFFD_FEATURE_EVENT_UNMAP;
    expect_refusal(serve_request(request, uffd), EINVAL, "needs no help");
    expect_refusal(serve_request({.version = 9, .kind = HelperRequestKind::kEnable}, uffd), EPROTO,
                   "version 9");
    EXPECT_FALSE(is_enabled(uffd));
}

TEST(Client, SeveralDescriptorsAreNone) {
    for (const std::size_t count : {2u, 3u, 9u}) {
        const Fd uffd = new_userfaultfd();
        const Pair pair;
        send_descriptors(pair.client.get(), kEnable, std::vector<int>(count, uffd.get()));
        serve(pair.server.get(), kPeer, open_device());
        expect_refusal(receive_answer(pair.client.get()), EINVAL, "descriptors came");
        EXPECT_FALSE(is_enabled(uffd));
    }
}

TEST(Client, GarbageIsRefusedInOneLine) {
    expect_refusal(serve_message("x", 1, -1), EINVAL, "1 bytes are no request");
    const std::string long_one(100'000, '\n');
    expect_refusal(serve_message(long_one.data(), long_one.size(), -1), EINVAL, "are no request");
    expect_refusal(serve_request({.kind = HelperRequestKind{99}}), ENOSYS, "there is no request 99");
    expect_refusal(serve_request({.kind = HelperRequestKind::kDevice}, new_userfaultfd()), EINVAL,
                   "descriptor");
}

TEST(Client, WhoHangsUpGetsNothing) {
    Pair pair;
    pair.client.reset();
    serve(pair.server.get(), kPeer, open_device());
    Pair hasty;
    send_message(hasty.client.get(), &kEnable, sizeof kEnable, new_userfaultfd().get());
    hasty.client.reset();
    serve(hasty.server.get(), kPeer, open_device());
}

TEST(Client, WithoutADeviceItIsToldSo) {
    const Pair pair;
    const HelperRequest request{.kind = HelperRequestKind::kDevice};
    send_message(pair.client.get(), &request, sizeof request, -1);
    serve(pair.server.get(), kPeer, Fd());
    expect_refusal(receive_answer(pair.client.get()), ENOENT, "no /dev/userfaultfd");
}

}  // namespace
}  // namespace farswap::daemon
