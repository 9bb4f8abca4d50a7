// A nfs-ganesha server of a test's own, and a proxy in front of it that misbehaves on demand. Knows
// script/lib/ganesha.sh.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace farswap::test {

/// Root and nfs-ganesha are there; tests skip themselves otherwise.
bool nfs_server_available();

/// Runs until destruction. Its files are removed with it.
class NfsServer {
  public:
    /// `exports`: names below the server's directory, or absolute paths, with flags as ganesha.sh takes them
    /// ("rw", "closed,ro").
    explicit NfsServer(const std::vector<std::string>& exports = {"export"});
    ~NfsServer();
    NfsServer(const NfsServer&) = delete;
    NfsServer& operator=(const NfsServer&) = delete;

    /// As a crash (SIGKILL), and back on the same ports.
    void kill();
    void restart();

    /// Of NFS, in the URLs: 3, or 4 for NFSv4.1.
    int version = 3;

    std::filesystem::path path(const std::string& name) const { return directory_ / name; }
    /// nfs://127.0.0.1/.../name?ports, with `more` ("&size=1M") behind it.
    std::string url(const std::string& name = "export", const std::string& more = "") const;
    /// The same by way of another NFS port.
    std::string url_by_port(std::uint16_t nfs_port, const std::string& more = "") const;
    std::uint16_t nfs_port() const { return nfs_port_; }
    std::uint16_t mount_port() const { return mount_port_; }

  private:
    void script(const std::string& command, const std::string& arguments = "") const;

    std::filesystem::path directory_;
    std::uint16_t nfs_port_ = 0, mount_port_ = 0;
};

/// Forwards TCP connections on a loopback port of its own to another.
class Proxy {
  public:
    explicit Proxy(std::uint16_t to_port);
    ~Proxy();
    Proxy(const Proxy&) = delete;
    Proxy& operator=(const Proxy&) = delete;

    std::uint16_t port() const { return port_; }
    /// While set, nothing is forwarded from the server to the client, or from the client to the server.
    void hold_replies(bool hold) { set(hold_replies_, hold); }
    void hold_requests(bool hold) { set(hold_requests_, hold); }
    /// Breaks the connections once so many more bytes have gone from the server to the client.
    void cut_after(std::int64_t reply_bytes);
    /// Breaks the connections now. What is held, or comes after this call, goes nowhere.
    void cut();
    /// Connections accepted so far.
    int accepted() const { return accepted_; }

  private:
    struct Pair {
        Fd client, server;
    };
    void run();
    bool forward(Pair& pair, bool from_server);
    void set(std::atomic<bool>& flag, bool value);
    void poke() const;

    std::uint16_t to_port_, port_ = 0;
    Fd listener_, wake_;
    std::atomic<bool> stop_ = false, hold_replies_ = false, hold_requests_ = false, cut_ = false;
    std::atomic<std::int64_t> cut_after_ = -1;
    std::atomic<int> accepted_ = 0;
    std::vector<Pair> pairs_;
    std::thread thread_;
};

}  // namespace farswap::test
