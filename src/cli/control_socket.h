// How commands reach a running pager: an abstract Unix socket (unix(7)) that is named by its process number,
// so that nothing is left behind whatever becomes of it. One JSON object a message.
#pragma once

#include <nlohmann/json.hpp>

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace farswap::cli {

/// The socket of this process, listening, non-blocking.
Result<Fd> listen_for_control();

/// The pagers whose sockets can be seen from here: of all users, in this network namespace.
std::vector<pid_t> running_pagers();

/// A connection to a pager. EPERM: it is another user's, or not what it seems. Root may talk to those of all
/// users, and must not believe what they say about what is not theirs.
Result<Fd> connect_to_pager(pid_t pager);
/// As connect_to_pager(), non-blocking. EAGAIN: so many wait for it already that it must be stopped.
Result<Fd> connect_without_waiting(pid_t pager);
/// The user at the other end.
std::optional<uid_t> user_of(int socket);

/// Whether the user at the other end (SO_PEERCRED) is root or ourselves: no one else may tell us what to do.
bool is_trusted(int socket);

/// False when the other end is gone. Does not block.
bool send_json(int socket, const nlohmann::json& message);

/// The next message; nothing when the other end has closed, or has sent what is no JSON object. EAGAIN: none
/// is there, on a socket that does not block.
Result<std::optional<nlohmann::json>> receive_json(int socket);

/// Waits until there is a message, or the other end has closed. EINTR: `is_interrupted`, which is asked ten
/// times a second; EAGAIN: neither until then.
Status await_message(
    int socket, const std::function<bool()>& is_interrupted,
    std::chrono::steady_clock::time_point until = std::chrono::steady_clock::time_point::max());

/// What an answer says has gone wrong; nothing: it says no such thing. Without control characters: root
/// prints what pagers of all users say.
std::optional<Error> error_in(const nlohmann::json& answer);

/// A message of bytes, such as follows some answers. False when the other end is gone, or takes nothing. Does
/// not block.
bool send_bytes(int socket, std::span<const std::byte> bytes);
/// Waits for one; how many bytes it had, `into` at most.
Result<std::size_t> receive_bytes(int socket, std::span<std::byte> into);

/// The pager that manages the process, and a connection to it. ENOENT: there is none that we may talk to.
/// EINTR: `is_interrupted`, while one that may have it does not answer.
struct PagerConnection {
    pid_t process = 0;
    Fd socket;
};
Result<PagerConnection> find_pager_of(pid_t process, const std::function<bool()>& is_interrupted = {});

}  // namespace farswap::cli
