// Cuts one large TCP or UDP frame, plain or inside tunnels, into the frames it stands for.

import CLinux

/// How to cut a frame: found once from its headers, then used for every segment.
///
/// Pure.
///
/// The kernel hands over frames of up to 64 KB whose length, identification, sequence and checksum
/// fields are those of the whole. A VXLAN frame of the kernel arrives so, too, with the segments
/// inside the tunnel.
public struct SegmentPlan {
    /// A header whose fields differ from segment to segment, in the order of the frame.
    enum Layer: Equatable, Sendable {
        case ipv4(at: Int)
        case ipv6(at: Int)
        /// UDP around a tunnelled frame; `hasChecksum` when its checksum was not zero.
        case udpTunnel(at: Int, hasChecksum: Bool)
    }
    /// Bytes of all headers, through TCP or UDP; each segment begins with them.
    public private(set) var headerByteCount = 0
    /// Payload bytes of every segment but the last, which may be shorter.
    public private(set) var segmentSize = 0
    public private(set) var payloadByteCount = 0
    public private(set) var count = 0
    public var largestSegmentByteCount: Int { headerByteCount + min(segmentSize, payloadByteCount) }

    private var layers = [8 of Layer](repeating: .ipv4(at: 0))
    private var layerCount = 0
    private var transport = 0
    private var isTCP = false

    /// Reads the headers of a frame of `byteCount` bytes; `headers` is its beginning.
    ///
    /// - Throws: ``OffloadFault`` when the headers do not lead to the transport that `request`
    ///   names.
    public init(
        headers: UnsafeRawBufferPointer,
        byteCount: Int,
        request: OffloadRequest
    ) throws(OffloadFault) {
        guard request.segmentation != .none, request.segmentSize > 0 else { throw .badHeader }
        isTCP = request.segmentation != .udp
        segmentSize = request.segmentSize
        let frame = HeaderBytes(bytes: headers)
        try walkEthernet(frame, from: 0, request)
        let words = isTCP ? Int(try frame.byte(transport + 12) >> 4) : 2
        headerByteCount = transport + words * 4
        guard !isTCP || words >= 5, headerByteCount <= headers.count else { throw .badHeader }
        payloadByteCount = byteCount - headerByteCount
        guard payloadByteCount >= 0 else { throw .badHeader }
        count = max(1, (payloadByteCount + segmentSize - 1) / segmentSize)
    }

    /// Where segment `index`'s payload lies in the whole payload.
    public func payloadRange(_ index: Int) -> Range<Int> {
        let start = min(index * segmentSize, payloadByteCount)
        return start..<min(start + segmentSize, payloadByteCount)
    }

    /// Adjusts a segment that consists of the frame's headers and its own payload.
    ///
    /// - Precondition: `segment` holds ``headerByteCount`` bytes and the payload of
    ///   `payloadRange(index)`.
    public func finish(_ segment: UnsafeMutableRawBufferPointer, index: Int) {
        guard let base = segment.baseAddress else { return }
        finishTransport(base, byteCount: segment.count, index: index)
        for position in stride(from: layerCount - 1, through: 0, by: -1) {
            switch layers[position] {
            case .ipv4(let at):
                let header = base + at
                header.storeBig(UInt16(truncatingIfNeeded: segment.count - at), at: 2)
                header.storeBig(header.loadBig(at: 4) &+ UInt16(truncatingIfNeeded: index), at: 4)
                header.storeBytes(of: 0, toByteOffset: 10, as: UInt16.self)
                let length = Int(header.load(as: UInt8.self) & 15) * 4
                let sum = InternetChecksum.complete(pe_sum16(header, length, 0))
                header.storeBytes(of: sum, toByteOffset: 10, as: UInt16.self)
            case .ipv6(let at):
                (base + at).storeBig(UInt16(truncatingIfNeeded: segment.count - at - 40), at: 4)
            case .udpTunnel(let at, let hasChecksum):
                (base + at).storeBig(UInt16(truncatingIfNeeded: segment.count - at), at: 4)
                if hasChecksum {
                    storeChecksum(base, layer: position - 1, at: at, field: 6, 17, segment.count)
                }
            }
        }
    }

    private func finishTransport(_ base: UnsafeMutableRawPointer, byteCount: Int, index: Int) {
        let header = base + transport
        if isTCP {
            let sequence = UInt32(
                bigEndian: header.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
            )
            let own = sequence &+ UInt32(truncatingIfNeeded: index &* segmentSize)
            header.storeBytes(of: own.bigEndian, toByteOffset: 4, as: UInt32.self)
            // FIN and PSH end the data, CWR speaks once (RFC 3168 section 6.1.2).
            var flags = header.load(fromByteOffset: 13, as: UInt8.self)
            if index < count - 1 { flags &= ~0x09 }
            if index > 0 { flags &= ~0x80 }
            header.storeBytes(of: flags, toByteOffset: 13, as: UInt8.self)
            storeChecksum(base, layer: layerCount - 1, at: transport, field: 16, 6, byteCount)
        } else {
            header.storeBig(UInt16(truncatingIfNeeded: byteCount - transport), at: 4)
            storeChecksum(base, layer: layerCount - 1, at: transport, field: 6, 17, byteCount)
        }
    }

    /// Computes the checksum of the header at `at` and all behind it, with the IP header of
    /// `layer`.
    private func storeChecksum(
        _ base: UnsafeMutableRawPointer,
        layer: Int,
        at: Int,
        field: Int,
        _ number: UInt8,
        _ end: Int
    ) {
        let (ip, isIPv6): (Int, Bool) =
            switch layers[layer] {
            case .ipv4(let at): (at, false)
            case .ipv6(let at): (at, true)
            case .udpTunnel(let at, _): (at, false)
            }
        (base + at).storeBytes(of: 0, toByteOffset: field, as: UInt16.self)
        let pseudo = InternetChecksum.pseudoHeader(
            ip: base + ip,
            isIPv6: isIPv6,
            protocolNumber: number,
            length: end - at
        )
        let sum = pe_sum16(base + at, end - at, pseudo)
        (base + at).storeBytes(
            of: InternetChecksum.completeTransport(sum),
            toByteOffset: field,
            as: UInt16.self
        )
    }
}

// MARK: - Walking the headers

extension SegmentPlan {
    private mutating func append(_ layer: Layer) throws(OffloadFault) {
        guard layerCount < 8 else { throw .unsupported }
        layers[layerCount] = layer
        layerCount += 1
    }

    private mutating func walkEthernet(
        _ frame: HeaderBytes,
        from start: Int,
        _ request: OffloadRequest
    ) throws(OffloadFault) {
        var at = start + 12
        var type = try frame.word(at)
        var tags = 0
        while type == 0x8100 || type == 0x88a8 {
            tags += 1
            guard tags <= 4 else { throw .unsupported }
            at += 4
            type = try frame.word(at)
        }
        try walkNetwork(frame, type: type, at: at + 2, request)
    }

    private mutating func walkNetwork(
        _ frame: HeaderBytes,
        type: UInt16,
        at: Int,
        _ request: OffloadRequest
    ) throws(OffloadFault) {
        switch type {
        case 0x0800:
            let first = try frame.byte(at)
            let length = Int(first & 15) * 4
            guard first >> 4 == 4, length >= 20 else { throw .badHeader }
            guard try frame.word(at + 6) & 0x3fff == 0 else { throw .badHeader }
            try append(.ipv4(at: at))
            try walkTransport(
                frame,
                number: try frame.byte(at + 9),
                at: at + length,
                isIPv6: false,
                request
            )
        case 0x86dd:
            guard try frame.byte(at) >> 4 == 6 else { throw .badHeader }
            try append(.ipv6(at: at))
            var number = try frame.byte(at + 6)
            var next = at + 40
            var extensions = 0
            while number == 0 || number == 43 || number == 60 {
                extensions += 1
                guard extensions <= 8 else { throw .unsupported }
                number = try frame.byte(next)
                next += (Int(try frame.byte(next + 1)) + 1) * 8
            }
            try walkTransport(frame, number: number, at: next, isIPv6: true, request)
        default: throw .unsupported
        }
    }

    /// The transport is where the checksum starts; what lies before it is a tunnel.
    private mutating func walkTransport(
        _ frame: HeaderBytes,
        number: UInt8,
        at: Int,
        isIPv6: Bool,
        _ request: OffloadRequest
    ) throws(OffloadFault) {
        let isWanted = number == (isTCP ? 6 : 17)
        if isWanted, at == request.checksum?.start ?? at {
            let isRightFamily =
                switch request.segmentation {
                case .tcp4: !isIPv6
                case .tcp6: isIPv6
                case .udp, .none: true
                }
            guard isRightFamily else { throw .badHeader }
            transport = at
            return
        }
        switch number {
        case 17: try walkUDPTunnel(frame, at: at, request)
        case 47: try walkGRE(frame, at: at, request)
        case 4: try walkNetwork(frame, type: 0x0800, at: at, request)
        case 41: try walkNetwork(frame, type: 0x86dd, at: at, request)
        default: throw .badHeader
        }
    }

    /// VXLAN on any port (RFC 7348), Geneve on its own (RFC 8926).
    private mutating func walkUDPTunnel(
        _ frame: HeaderBytes,
        at: Int,
        _ request: OffloadRequest
    ) throws(OffloadFault) {
        try append(.udpTunnel(at: at, hasChecksum: try frame.word(at + 6) != 0))
        guard try frame.word(at + 2) == 6081 else {
            return try walkEthernet(frame, from: at + 16, request)
        }
        let inner = at + 16 + Int(try frame.byte(at + 8) & 0x3f) * 4
        let type = try frame.word(at + 10)
        if type == 0x6558 { return try walkEthernet(frame, from: inner, request) }
        try walkNetwork(frame, type: type, at: inner, request)
    }

    /// GRE (RFC 2784, 2890) without checksum and sequence number, which would change per segment.
    private mutating func walkGRE(
        _ frame: HeaderBytes,
        at: Int,
        _ request: OffloadRequest
    ) throws(OffloadFault) {
        let flags = try frame.word(at)
        guard flags & ~0x2000 == 0 else { throw .unsupported }
        let inner = at + (flags & 0x2000 != 0 ? 8 : 4)
        let type = try frame.word(at + 2)
        if type == 0x6558 { return try walkEthernet(frame, from: inner, request) }
        try walkNetwork(frame, type: type, at: inner, request)
    }
}

/// Bounds-checked reads in network byte order.
private struct HeaderBytes {
    let bytes: UnsafeRawBufferPointer
    func byte(_ at: Int) throws(OffloadFault) -> UInt8 {
        guard at >= 0, at < bytes.count else { throw .badHeader }
        return bytes[at]
    }
    func word(_ at: Int) throws(OffloadFault) -> UInt16 {
        guard at >= 0, at + 2 <= bytes.count else { throw .badHeader }
        return UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1])
    }
}

extension UnsafeMutableRawPointer {
    fileprivate func loadBig(at offset: Int) -> UInt16 {
        UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
    fileprivate func storeBig(_ value: UInt16, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
    }
}
