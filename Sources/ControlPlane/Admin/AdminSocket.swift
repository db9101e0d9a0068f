// The admin socket's place in the file system: one daemon owns it, nobody else can open it meanwhile.

import Glibc

/// Why the admin socket cannot be had; the text says what to do.
public struct AdminSocketError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}

/// A claimed path and the bound socket on it.
struct AdminSocket {
    let path: String
    /// Bound, not listening yet; whoever listens on it closes it.
    let descriptor: Int32
    private let lock: Int32
    private let lockPath: String

    /// Bytes of a unix socket's path, without the terminating zero (unix(7)).
    static let pathByteLimit = 107

    /// Claims `path`: makes its directory, locks it, removes what a crashed daemon left, binds.
    ///
    /// The lock is what keeps two daemons apart; the connection test catches one without a lock.
    init(claiming path: String, mode: UInt32) throws(AdminSocketError) {
        guard path.hasPrefix("/"), !path.hasSuffix("/"), path.utf8.count <= Self.pathByteLimit
        else {
            throw AdminSocketError(
                "admin socket \(path): an absolute path of at most \(Self.pathByteLimit) bytes is "
                    + "needed; set dataplane.adminSocket"
            )
        }
        self.path = path
        try Self.makeParent(of: path)
        lockPath = path + ".lock"
        lock = try Self.takeLock(lockPath, socket: path)
        do throws(AdminSocketError) {
            try Self.removeStale(path)
            descriptor = try Self.bind(path, mode: mode)
        } catch {
            unlink(lockPath)
            close(lock)
            throw error
        }
    }

    /// Removes the socket and gives the path up.
    ///
    /// The descriptor is not closed.
    func release() {
        unlink(path)
        unlink(lockPath)
        close(lock)
    }

    private static func makeParent(of path: String) throws(AdminSocketError) {
        let parts = path.split(separator: "/").dropLast()
        var parent = ""
        for part in parts {
            parent += "/" + part
            guard mkdir(parent, 0o755) == 0 || errno == EEXIST else {
                throw AdminSocketError(
                    "cannot make the directory \(parent): \(reason()); run as root or set "
                        + "dataplane.adminSocket to a path that can be written"
                )
            }
        }
    }

    /// Opens and locks the lock file; a file that its owner removed meanwhile is opened anew.
    private static func takeLock(_ lockPath: String, socket: String) throws(AdminSocketError)
        -> Int32
    {
        for _ in 0..<16 {
            let file = open(lockPath, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard file >= 0 else {
                throw AdminSocketError(
                    "cannot open \(lockPath): \(reason()); run as root or set dataplane.adminSocket "
                        + "to a path that can be written"
                )
            }
            guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
                let owner = readOwner(file)
                close(file)
                throw inUse(socket, by: owner.map { " (pid \($0))" } ?? "")
            }
            var held = stat()
            var named = stat()
            if fstat(file, &held) == 0, stat(lockPath, &named) == 0, held.st_ino == named.st_ino,
                held.st_dev == named.st_dev
            {
                writeOwner(file)
                return file
            }
            close(file)
        }
        throw AdminSocketError("\(lockPath) keeps changing; try again")
    }

    private static func inUse(_ path: String, by owner: String) -> AdminSocketError {
        AdminSocketError(
            "another pe-dp\(owner) serves \(path); stop it, or give this one another "
                + "dataplane.adminSocket"
        )
    }

    private static func readOwner(_ file: Int32) -> Int? {
        var bytes = [UInt8](repeating: 0, count: 20)
        let count = pread(file, &bytes, bytes.count, 0)
        guard count > 0 else { return nil }
        return Int(String(decoding: bytes[..<count].prefix { $0 != 0x0A }, as: UTF8.self))
    }

    private static func writeOwner(_ file: Int32) {
        let text = Array("\(getpid())\n".utf8)
        guard ftruncate(file, 0) == 0 else { return }
        _ = pwrite(file, text, text.count, 0)
    }

    private static func removeStale(_ path: String) throws(AdminSocketError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw AdminSocketError(
                "\(path) exists and is not a socket; remove it or set dataplane.adminSocket"
            )
        }
        let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard probe >= 0 else { throw AdminSocketError("cannot open a unix socket: \(reason())") }
        defer { close(probe) }
        if withUnixAddress(path, { connect(probe, $0, $1) }) == 0 { throw inUse(path, by: "") }
        guard errno == ECONNREFUSED || errno == ENOENT else {
            throw AdminSocketError("cannot tell whether \(path) is in use: \(reason()); remove it")
        }
        guard unlink(path) == 0 || errno == ENOENT else {
            throw AdminSocketError("cannot replace the stale socket \(path): \(reason())")
        }
    }

    private static func bind(_ path: String, mode: UInt32) throws(AdminSocketError) -> Int32 {
        let file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard file >= 0 else { throw AdminSocketError("cannot open a unix socket: \(reason())") }
        // The kernel makes the file with the socket's own mode (unix_bind): at no moment is it wider
        // than asked for. chmod adds what the umask took away.
        guard fchmod(file, mode) == 0,
            withUnixAddress(path, { Glibc.bind(file, $0, $1) }) == 0, chmod(path, mode) == 0
        else {
            let why = reason()
            close(file)
            throw AdminSocketError("cannot bind the admin socket \(path): \(why)")
        }
        return file
    }

    private static func reason() -> String { String(cString: strerror(errno)) }
}

/// Calls `body` with the address of a unix socket.
///
/// A path of more than 107 bytes is cut; callers
/// check first. A path that begins with `@` is abstract.
func withUnixAddress<Result>(
    _ path: String,
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var bytes = Array(path.utf8.prefix(AdminSocket.pathByteLimit))
    let isAbstract = bytes.first == UInt8(ascii: "@")
    if isAbstract { bytes[0] = 0 }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    // An abstract name ends where the length says; a path ends in a zero.
    let length = MemoryLayout<sa_family_t>.size + bytes.count + (isAbstract ? 0 : 1)
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
    }
}
