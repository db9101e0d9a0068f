// What can be read of the host without changing it.

import Foundation
import Glibc

/// The offloads of a kernel device that matter to packets read from it.
struct DeviceOffloads: Codable, Hashable {
    var txChecksum: Bool
    var segmentation: Bool
    var gro: Bool
    var lro: Bool
    var rxVLAN: Bool
}

/// A host, read through its files; tests give a tree of their own as `root`.
struct HostView {
    /// What comes before every path: empty for this host.
    var root = ""
    var release: String = HostView.ownRelease()
    var offloads: @Sendable (String) -> DeviceOffloads? = { HostView.readOffloads(of: $0) }

    func exists(_ path: String) -> Bool { access(root + path, F_OK) == 0 }

    /// The names in a directory, sorted; empty when there is none.
    func list(_ path: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: root + path)) ?? []).sorted()
    }

    /// Up to 64 MiB of a file; nil when it cannot be read.
    ///
    /// Works for files of /proc, which have no size.
    func bytes(_ path: String) -> [UInt8]? {
        let file = open(root + path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var result: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while result.count < 64 << 20 {
            let count = read(file, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { return nil }
            if count == 0 { break }
            result += chunk[..<count]
        }
        return result
    }

    func text(_ path: String) -> String? { bytes(path).map { String(decoding: $0, as: UTF8.self) } }

    func number(_ path: String) -> Int? {
        text(path).flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
    }

    /// The value behind `name:` in a file of lines.
    func field(_ name: String, in path: String) -> String? {
        for line in (text(path) ?? "").split(separator: "\n") where line.hasPrefix(name) {
            guard let colon = line.firstIndex(of: ":"),
                line[..<colon].trimmingCharacters(in: .whitespaces) == name
            else { continue }
            return line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
        }
        return nil
    }

    /// Whether a file can be opened for reading and writing; nil, or the errno.
    func openError(_ path: String) -> Int32? {
        let file = open(root + path, O_RDWR | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { return errno }
        close(file)
        return nil
    }

    private static func ownRelease() -> String {
        var name = utsname()
        guard uname(&name) == 0 else { return "" }
        return withUnsafeBytes(of: &name.release) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// Asks the kernel through ethtool's reading requests (linux/ethtool.h); nil for no such device.
    static func readOffloads(of device: String) -> DeviceOffloads? {
        let file = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard file >= 0 else { return nil }
        defer { close(file) }
        let value = { (command: UInt32) -> UInt32? in
            // struct ifreq: 16 bytes of name, then a pointer to {command, data}.
            var request = [UInt8](repeating: 0, count: 40)
            for (index, byte) in device.utf8.prefix(15).enumerated() { request[index] = byte }
            var pair: (UInt32, UInt32) = (command, 0)
            let result = withUnsafeMutableBytes(of: &pair) { pair in
                request.withUnsafeMutableBytes { request -> Int32 in
                    request.storeBytes(
                        of: pair.baseAddress,
                        toByteOffset: 16,
                        as: UnsafeMutableRawPointer?.self
                    )
                    guard let base = request.baseAddress else { return -1 }
                    return ioctl(file, 0x8946, base)
                }
            }
            return result == 0 ? pair.1 : nil
        }
        guard let txChecksum = value(0x16) else { return nil }
        let flags = value(0x25) ?? 0
        return DeviceOffloads(
            txChecksum: txChecksum != 0,
            segmentation: (value(0x1e) ?? 0) | (value(0x23) ?? 0) != 0,
            gro: value(0x2b) ?? 0 != 0,
            lro: flags & 1 << 15 != 0,
            rxVLAN: flags & 1 << 8 != 0
        )
    }
}
