// A thread that lives in one network namespace and runs there what must be made there.

import CLinux
import Glibc

/// Why a namespace cannot be entered.
public struct NamespaceError: Error, CustomStringConvertible, Hashable, Sendable {
    public var path: String
    public var errno: Int32
    public var description: String {
        let remedy =
            switch errno {
            case ENOENT: "create it first: ip netns add \(path.split(separator: "/").last ?? "")"
            case EPERM, EACCES: "run as root or with CAP_SYS_ADMIN"
            case EINVAL: "it is a file but not a network namespace"
            default: "check that the namespace exists and is mounted"
            }
        return "cannot enter network namespace \(path): \(errorText(errno)); \(remedy)"
    }
}

/// A dedicated thread that enters a network namespace once, before it runs anything.
///
/// A descriptor keeps the namespace in which it was opened, so sockets, TAPs and BPF attachments
/// are made by closures that run here and are then used from anywhere. No other thread changes its
/// namespace.
public final class NetworkNamespace: @unchecked Sendable {
    /// The file that names the namespace; nil is the process's own.
    public let path: String?
    private let queue = JobQueue()

    /// - Parameter name: a name under /run/netns, a path (with a slash), or nil for the own
    ///   namespace.
    public init(_ name: String?) throws {
        path = name.map { $0.contains("/") ? $0 : "/run/netns/\($0)" }
        let thread = Box<pthread_t>(0)
        let queue = queue
        let argument = Unmanaged.passRetained(queue).toOpaque()
        let result = pthread_create(
            &thread.value, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<JobQueue>.fromOpaque(argument).takeRetainedValue().work()
                return nil
            }, argument)
        guard result == 0 else {
            Unmanaged<JobQueue>.fromOpaque(argument).release()
            throw NamespaceError(path: path ?? "(own)", errno: result)
        }
        pthread_detach(thread.value)
        guard let path else { return }
        let entered = try run { pe_namespace_enter(path) }
        guard entered == 0 else {
            queue.close()
            throw NamespaceError(path: path, errno: 0 &- entered)
        }
    }

    deinit { queue.close() }

    /// Runs `body` on the namespace's thread and waits for it. Jobs run one at a time, in order.
    public func run<T>(_ body: @escaping () throws -> T) throws -> T {
        if queue.isOwnThread { return try body() }
        let result = Box<Result<T, any Error>?>(nil)
        let done = Gate()
        queue.add(
            Job {
                result.value = Result { try body() }
                done.open()
            })
        done.wait()
        guard let value = result.value else {
            throw NamespaceError(path: path ?? "(own)", errno: ESRCH)
        }
        return try value.get()
    }
}

/// strerror as a Swift string.
func errorText(_ code: Int32) -> String {
    let name = strerror(code).map { String(cString: $0) } ?? "error"
    return "\(name) (errno \(code))"
}

/// A value that one thread writes while another waits for it.
private final class Box<T>: @unchecked Sendable {
    var value: T
    init(_ value: T) { self.value = value }
}

/// Work for another thread; whoever hands it over waits until it is done or keeps out of what it
/// touches.
private struct Job: @unchecked Sendable {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
}

/// A mutex and a condition at a fixed place in memory.
final class Monitor: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }
    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }
    func locked<T>(_ body: () -> T) -> T {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }
    /// Only while locked.
    func wait() { pthread_cond_wait(condition, mutex) }
    func wake() { pthread_cond_broadcast(condition) }
}

private final class Gate: @unchecked Sendable {
    private let monitor = Monitor()
    private var isOpen = false
    func open() {
        monitor.locked {
            isOpen = true
            monitor.wake()
        }
    }
    func wait() { monitor.locked { while !isOpen { monitor.wait() } } }
}

private final class JobQueue: @unchecked Sendable {
    private let monitor = Monitor()
    private var jobs: [Job] = []
    private var isClosed = false
    private var thread: pthread_t?

    var isOwnThread: Bool {
        let own = pthread_self()
        return monitor.locked { thread.map { pthread_equal($0, own) != 0 } ?? false }
    }
    func add(_ job: Job) {
        monitor.locked {
            jobs.append(job)
            monitor.wake()
        }
    }
    func close() {
        monitor.locked {
            isClosed = true
            monitor.wake()
        }
    }
    /// The thread's life: until the queue is closed and empty.
    func work() {
        let own = pthread_self()
        monitor.locked { thread = own }
        while let next = take() { next.body() }
    }
    private func take() -> Job? {
        monitor.locked {
            while jobs.isEmpty, !isClosed { monitor.wait() }
            return jobs.isEmpty ? nil : jobs.removeFirst()
        }
    }
}
