// Dumps and acknowledged requests over one route netlink socket.

import CLinux
import Glibc

/// Why the kernel did not do what was asked.
public struct KernelError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was asked: `add 02:00:00:00:00:01 to the FDB`.
    public var what: String
    /// The device it is about; 0 for none.
    public var interface: UInt32
    /// Its name, where the caller knows it.
    public var device: String?
    public var errno: Int32
    /// The kernel's own words (NLMSGERR_ATTR_MSG), where it has any.
    public var detail: String?

    public init(
        what: String, interface: UInt32 = 0, device: String? = nil, errno: Int32, detail: String? = nil
    ) {
        self.what = what
        self.interface = interface
        self.device = device
        self.errno = errno
        self.detail = detail
    }

    public var description: String {
        let place =
            switch (device, interface) {
            case (let name?, _): " on \(name)"
            case (nil, 0): ""
            case (nil, _): " on the device with ifindex \(interface)"
            }
        return "cannot \(what)\(place): \(detail.map { "\($0), " } ?? "")\(errorText(errno))"
            + (remedy.map { "; \($0)" } ?? "")
    }

    private var remedy: String? {
        switch errno {
        case EPERM, EACCES: "run as root or with CAP_NET_ADMIN in that network namespace"
        case ENODEV, ENXIO: "the device has gone; was it removed by hand?"
        case EOPNOTSUPP: "the kernel lacks this feature, or the device is of another kind"
        case EADDRINUSE: "another socket has the UDP port or another vxlan device the VNI"
        case EEXIST: "something of that name is there already"
        case ENOBUFS, ENOMEM: "the system is out of memory for sockets"
        case EAFNOSUPPORT: "IPv6 is switched off in that network namespace"
        default: nil
        }
    }
}

/// What a dump lists.
public enum KernelDump: Hashable, Sendable, CaseIterable {
    case links
    /// Bridge ports with their VLANs.
    case bridgeLinks
    case addresses
    case nextHops
    /// ARP and ND entries.
    case neighbors
    /// Rows of bridges and vxlan devices.
    case fdb
    case routes
    /// Everything but routes, in the order in which each can be understood from those before it.
    public static let state: [KernelDump] = [
        .links, .bridgeLinks, .addresses, .nextHops, .fdb, .neighbors,
    ]

    fileprivate var request: (type: UInt16, header: [UInt8]) {
        let link = { (family: UInt8) in [family] + [UInt8](repeating: 0, count: 15) }
        let neighbor = { (family: UInt8) in [family] + [UInt8](repeating: 0, count: 11) }
        // IFLA_EXT_MASK: RTEXT_FILTER_BRVLAN.
        let withVLANs: [UInt8] = [8, 0, 29, 0, 2, 0, 0, 0]
        return switch self {
        case .links: (18, link(AddressFamily.unspecified))
        case .bridgeLinks: (18, link(AddressFamily.bridge) + withVLANs)
        case .addresses: (22, [UInt8](repeating: 0, count: 8))
        case .routes: (26, [UInt8](repeating: 0, count: 12))
        case .neighbors: (30, neighbor(AddressFamily.unspecified))
        case .fdb: (30, neighbor(AddressFamily.bridge))
        case .nextHops: (106, [UInt8](repeating: 0, count: 8))
        }
    }
}

/// A socket that asks and waits for the answer. Used by one thread at a time.
public final class KernelSocket: @unchecked Sendable {
    /// The kernel answers at once; only a machine in trouble needs longer.
    static let answerTimeout: Int32 = 10_000
    /// Bytes of one datagram of requests: libnl gives the socket 32 KiB to send.
    private static let batchBytes = 24_576
    /// A dump that the kernel marks as inconsistent is made again, so often.
    private static let dumpAttempts = 4
    private static let receiveBytes: Int32 = 4 << 20

    private let socket: OpaquePointer
    private var buffer = [UInt8](repeating: 0, count: 1 << 18)
    private var sequence: UInt32 = 0

    public init(in namespace: NetworkNamespace) throws {
        socket = try openRouteSocket(in: namespace, receiveBytes: Self.receiveBytes)
    }
    deinit { pe_netlink_close(socket) }

    // MARK: Dumps

    /// The messages of a dump, with an error for each that could not be decoded.
    public func dump(
        _ what: KernelDump
    ) throws(KernelError) -> (messages: [NetlinkMessage], errors: [DecodeError]) {
        var result: (messages: [NetlinkMessage], errors: [DecodeError]) = ([], [])
        for attempt in 1...Self.dumpAttempts {
            result = ([], [])
            let isConsistent: Bool
            do {
                isConsistent = try raw(what) { bytes in
                    let decoded = NetlinkDecoder.decode(bytes)
                    result.messages += decoded.messages
                    result.errors += decoded.errors
                }
            } catch {
                // Notifications that the kernel dropped do not matter here, half a dump does.
                guard error.errno == ENOBUFS || error.errno == EBUSY, attempt < Self.dumpAttempts else {
                    throw error
                }
                continue
            }
            if isConsistent { break }
        }
        result.messages.removeAll { $0 == .done }
        return result
    }

    /// The bytes of a dump as the kernel sent them, NLMSG_DONE left out.
    public func rawDump(_ what: KernelDump) throws(KernelError) -> [UInt8] {
        var result: [UInt8] = []
        _ = try raw(what) { result += $0 }
        return result
    }

    /// - Returns: whether nothing changed while the kernel dumped.
    private func raw(
        _ what: KernelDump, _ take: (UnsafeRawBufferPointer) -> Void
    ) throws(KernelError) -> Bool {
        let dumpFlags: UInt16 = 0x301  // NLM_F_REQUEST, NLM_F_ROOT, NLM_F_MATCH
        let request = what.request
        let sequence = nextSequence()
        var message = request.header
        let length = UInt32(NetlinkHeader.size + request.header.count)
        var header: [UInt8] = []
        withUnsafeBytes(of: length) { header += $0 }
        withUnsafeBytes(of: request.type) { header += $0 }
        withUnsafeBytes(of: dumpFlags) { header += $0 }
        withUnsafeBytes(of: sequence) { header += $0 }
        header += [0, 0, 0, 0]
        message = header + message
        let sent = pe_netlink_send(socket, message, message.count)
        guard sent == 0 else { throw KernelError(what: "dump \(what)", errno: 0 &- sent) }
        var isConsistent = true
        while true {
            let count = try receive("dump \(what)")
            let part = buffer[0..<count].withUnsafeBytes { bytes in
                let part = DumpPart(bytes, sequence: sequence)
                if part.count > 0 { take(UnsafeRawBufferPointer(rebasing: bytes[0..<part.count])) }
                return part
            }
            if part.isInterrupted { isConsistent = false }
            if let code = part.failure { throw KernelError(what: "dump \(what)", errno: code) }
            if part.isDone { return isConsistent }
        }
    }

    // MARK: Requests

    /// Performs the requests in order, many at a time; the result has one entry for each, nil when
    /// it was done. One that fails does not stop those behind it.
    public func perform(_ requests: [KernelRequest]) -> [KernelError?] {
        var results = [KernelError?](repeating: nil, count: requests.count)
        var batch: [UInt8] = []
        var members: [UInt32: Int] = [:]
        for (index, request) in requests.enumerated() {
            let sequence = nextSequence()
            guard let message = request.message(sequence: sequence) else {
                results[index] = error(request, ENAMETOOLONG)
                continue
            }
            if batch.count + message.count > Self.batchBytes {
                finish(batch, members, requests, &results)
                batch.removeAll(keepingCapacity: true)
                members.removeAll(keepingCapacity: true)
            }
            batch += message
            members[sequence] = index
        }
        finish(batch, members, requests, &results)
        return results
    }

    /// The same for one request.
    public func perform(_ request: KernelRequest) throws(KernelError) {
        if let failed = perform([request]).first ?? nil { throw failed }
    }

    /// Sends a batch and waits until each of its requests is acknowledged.
    private func finish(
        _ batch: [UInt8], _ members: [UInt32: Int], _ requests: [KernelRequest],
        _ results: inout [KernelError?]
    ) {
        guard !batch.isEmpty else { return }
        var open = members
        let sent = pe_netlink_send(socket, batch, batch.count)
        var failure: Int32? = sent == 0 ? nil : 0 &- sent
        while !open.isEmpty, failure == nil {
            do {
                let count = try receive("read acknowledgements")
                buffer[0..<count].withUnsafeBytes { bytes in
                    forEachAcknowledgement(bytes) { sequence, code, detail in
                        guard let index = open.removeValue(forKey: sequence), code != 0 else { return }
                        results[index] = error(requests[index], code, detail)
                    }
                }
            } catch {
                failure = error.errno
            }
        }
        for index in open.values { results[index] = error(requests[index], failure ?? EIO) }
    }

    private func error(
        _ request: KernelRequest, _ code: Int32, _ detail: String? = nil
    ) -> KernelError {
        KernelError(
            what: request.purpose, interface: request.interface, errno: code, detail: detail)
    }

    private func nextSequence() -> UInt32 {
        sequence = sequence == .max ? 1 : sequence + 1
        return sequence
    }

    /// The size of the next datagram, now in ``buffer``.
    private func receive(_ what: @autoclosure () -> String) throws(KernelError) -> Int {
        while true {
            let count = buffer.withUnsafeMutableBufferPointer { bytes -> Int32 in
                guard let base = bytes.baseAddress else { return 0 &- ENOMEM }
                return pe_netlink_receive(socket, base, bytes.count)
            }
            if count > 0 { return Int(count) }
            if count == 0 { continue }
            guard count == 0 &- EAGAIN else { throw KernelError(what: what(), errno: 0 &- count) }
            guard pe_netlink_wait(socket, -1, Self.answerTimeout) > 0 else {
                throw KernelError(what: what(), errno: ETIMEDOUT)
            }
        }
    }
}

/// Opens a route netlink socket in a namespace.
func openRouteSocket(
    in namespace: NetworkNamespace, receiveBytes: Int32
) throws -> OpaquePointer {
    var socket: OpaquePointer?
    let result = try namespace.run { pe_netlink_open(receiveBytes, &socket) }
    guard result == 0, let socket else {
        throw KernelError(what: "open a route netlink socket", errno: 0 &- result)
    }
    return socket
}

/// What one datagram says about the dump it belongs to.
private struct DumpPart {
    /// Bytes of messages that are part of the dump.
    var count = 0
    var isDone = false
    var isInterrupted = false
    var failure: Int32?

    init(_ bytes: UnsafeRawBufferPointer, sequence: UInt32) {
        var rest = ByteReader(bytes)
        while rest.count > 0, let header = try? NetlinkHeader(rest) {
            guard header.sequence == sequence else { return }
            if header.flags & NetlinkHeader.dumpInterruptedFlag != 0 { isInterrupted = true }
            if header.type == NetlinkHeader.done || header.type == NetlinkHeader.error {
                isDone = true
                let code: Int32 = (try? header.body.load(0, "NLMSG_DONE")) ?? 0
                if code < 0 { failure = 0 &- code }
                return
            }
            rest = rest.rest(after: aligned(header.length))
            count = min(rest.start, bytes.count)
        }
    }
}

/// Calls `body` with the sequence number, the errno and the kernel's words of each acknowledgement.
private func forEachAcknowledgement(
    _ bytes: UnsafeRawBufferPointer, _ body: (UInt32, Int32, String?) -> Void
) {
    let cappedFlag: UInt16 = 0x100, detailsFlag: UInt16 = 0x200, message: UInt16 = 1
    var rest = ByteReader(bytes)
    while rest.count > 0, let header = try? NetlinkHeader(rest) {
        rest = rest.rest(after: aligned(header.length))
        guard header.type == NetlinkHeader.error,
            let code: Int32 = try? header.body.load(0, "nlmsgerr.error")
        else { continue }
        var detail: String?
        if header.flags & detailsFlag != 0 {
            // Behind the code: the request's header, and unless it was capped the rest of the
            // request.
            let request = (try? header.body.load(4, "nlmsg_len", as: UInt32.self)) ?? 0
            let skipped = header.flags & cappedFlag != 0 ? NetlinkHeader.size : aligned(Int(request))
            if var attributes = try? NetlinkAttributes(header.body.rest(after: 4 + skipped)) {
                while let attribute = try? attributes.next() {
                    if attribute.type == message { detail = attribute.string }
                }
            }
        }
        body(header.sequence, 0 &- code, detail)
    }
}
