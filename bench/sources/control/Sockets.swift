// The way through sockets and files: the real server and control thread, generated and recorded streams.

import CLinux
import ControlPlane
import Glibc
import Tables
import Wire

extension Measurements {
    // MARK: Through TCP

    /// The daemon's own server, decoder and control thread; a client sends as zebra does.
    func tcp() -> [String: Any] {
        let phases = phases()
        let plane = Plane(Streams(fabric))
        let loop = ControlLoop(state: plane.state, compiler: plane.compiler) { _ in }
        loop.start()
        defer { loop.stop() }
        let server: FPMServer
        do { server = try FPMServer(listen: "127.0.0.1:0", in: NetworkNamespace(nil)) { loop.post($0) } } catch {
            fail("\(error)")
        }
        defer { server.stop() }
        guard let port = server.localAddress?.port else { fail("the server has no port") }
        let socket = connectTo(port: port)
        defer { close(socket) }
        send(socket, phases[0].stream.bytes)
        waitForAnswer(loop, messages: phases[0].stream.messages)
        let shared = Shared()
        let watch = Watch(fabric, plane.tables, shared)
        let cpu = options.readerCPU
        let thread = BenchThread {
            pin(cpu)
            watch.run()
        }
        while !shared.runs { usleep(100) }
        let before = residentBytes()
        let begin = seconds()
        watch.wait(for: fabric.prefixes - 1)
        send(socket, phases[1].stream.bytes)
        let sent = seconds()
        while watch.seenAt == 0 { usleep(200) }
        let install = (
            visible: watch.seenAt - begin, afterLastByte: watch.seenAt - sent, memory: residentBytes() - before
        )
        let single = singleMessages(socket, watch)
        shared.stops = true
        thread.join()
        return [
            "messages": phases[1].stream.messages, "seconds": install.visible,
            "perSecond": Double(phases[1].stream.messages) / install.visible,
            "lastByteToVisibleMilliseconds": install.afterLastByte * 1e3,
            "singleMilliseconds": ["p50": single[single.count / 2] * 1e3, "p99": single[single.count * 99 / 100] * 1e3,
                "max": (single.last ?? 0) * 1e3],
            "bytesPerEntry": Double(install.memory) / Double(fabric.routes + fabric.macs + fabric.prefixes),
        ]
    }
    /// Seconds from a message's last byte to its route in the table, sorted.
    private func singleMessages(_ socket: Int32, _ watch: Watch) -> [Double] {
        let streams = Streams(fabric)
        var times: [Double] = []
        for number in 0..<(options.generations > 2 ? 400 : 50) {
            watch.wait(for: fabric.prefixes + number)
            let begin = seconds()
            send(socket, streams.extraPrefix(fabric.prefixes + number).bytes)
            while watch.seenAt == 0 { usleep(50) }
            times.append(watch.seenAt - begin)
            usleep(500)
        }
        return times.sorted()
    }
    private func connectTo(port: Int) -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if descriptor < 0 || result != 0 {
            fail("cannot connect to the FPM server: \(String(cString: strerror(errno)))")
        }
        return descriptor
    }
    private func send(_ socket: Int32, _ bytes: [UInt8]) {
        bytes.withUnsafeBytes { raw in
            var done = 0
            while done < raw.count {
                let count = Glibc.send(
                    socket, raw.baseAddress.map { $0 + done }, min(Plane.chunk, raw.count - done), Int32(MSG_NOSIGNAL))
                guard count > 0 else { fail("the FPM connection broke: \(String(cString: strerror(errno)))") }
                done += count
            }
        }
    }
    private func waitForAnswer(_ loop: ControlLoop, messages: Int) {
        final class Count: @unchecked Sendable { let word = UnsafeMutablePointer<UInt64>.allocate(capacity: 1) }
        let count = Count()
        count.word.initialize(to: 0)
        let deadline = seconds() + 60
        while pe_load64(count.word) < UInt64(messages) {
            if seconds() > deadline { fail("the control thread did not take \(messages) messages in a minute") }
            loop.ask { state, _ in pe_store64(count.word, state.counters.messages) }
            usleep(1000)
        }
    }

    // MARK: Files

    /// Writes everything that another program needs to feed a daemon the same.
    func generate() -> [String: Any] {
        guard !options.directory.isEmpty else { fail("generate needs --dir") }
        mkdir(options.directory, 0o755)
        let streams = Streams(fabric)
        var messages: [String: Int] = [:]
        func write(_ name: String, _ stream: StreamWriter) {
            stream.write(to: "\(options.directory)/\(name)")
            messages[name] = stream.messages
        }
        write("links.bin", streams.links())
        write("fpm-0-base.bin", streams.base())
        write("fpm-1-install.bin", streams.install())
        for generation in 0..<options.generations {
            write("fpm-\(generation + 2)-change.bin", streams.generation(generation + 1))
        }
        write("fpm-\(options.generations + 2)-withdraw.bin", streams.withdrawal(after: options.generations))
        var text = StreamWriter()
        text.append(text: streams.configuration)
        text.write(to: "\(options.directory)/pe-dp.yaml")
        return ["directory": options.directory, "messages": messages]
    }

    /// Recorded streams, again and again: every one as a new connection.
    func replay() -> [String: Any] {
        guard !options.files.isEmpty else { fail("replay needs recorded streams") }
        pin(options.cpu)
        let links = options.links.isEmpty ? [] : Array(MappedStream(options.links).bytes)
        let plane = Plane(yaml: Self.recordedConfiguration, links: links, uplinks: [2])
        var totals = FeedTotals()
        let end = seconds() + options.seconds
        let files = options.files.map { MappedStream($0).bytes }
        var rounds = 0
        while seconds() < end {
            for file in files {
                plane.reconnect()
                let fed = plane.feed(file)
                totals.messages += fed.messages
                totals.seconds += fed.seconds
                totals.cpuSeconds += fed.cpuSeconds
            }
            rounds += 1
        }
        guard totals.messages > 0 else {
            fail("these files have no FPM message; a stream is what zebra sends, from the first byte of a connection")
        }
        return [
            "messages": totals.messages, "rounds": rounds, "perSecond": totals.perSecond,
            "perCPUSecond": totals.perCPUSecond, "files": options.files.count,
        ]
    }
    /// The PE on which the streams were recorded: L2VNI 10100, L3VNI 50000 in the default VRF.
    private static let recordedConfiguration = """
        ports:
          - {name: u0, driver: "null", device: null0, mtu: 1600, exception: {addresses: [10.0.1.1/31]}}
        underlays:
          - {interfaces: [u0], tunnelEndpoint: {addresses: [10.0.0.1]}}
        l3vnis:
          - {vrf: default, vni: 50000}
        l2vnis:
          - name: l2
            vni: 10100
            routingDomain: {type: L3VNI, l3vni: {name: default}}
            gatewayIPs: [192.168.100.11/24]
        control: {shadow: false}

        """
}

/// A thread that looks one prefix up until it is there.
final class Watch: @unchecked Sendable {
    private let fabric: Fabric
    private let shared: Shared
    private let reader: PublicationReader
    /// 0: the prefix that is waited for. 16: when it was seen, as the bits of a number.
    private let words = UnsafeMutablePointer<UInt64>.allocate(capacity: 32)

    init(_ fabric: Fabric, _ tables: ForwardingTables, _ shared: Shared) {
        self.fabric = fabric
        self.shared = shared
        reader = tables.reader(worker: 0)
        words.initialize(repeating: 0, count: 32)
    }
    deinit { words.deallocate() }

    func wait(for prefix: Int) {
        pe_store64(words + 16, 0)
        pe_store64(words, UInt64(prefix) + 1)
    }
    /// 0 until it is there.
    var seenAt: Double { Double(bitPattern: pe_load64(words + 16)) }

    func run() {
        shared.runs = true
        while !shared.stops {
            reader.quiescent()
            let wanted = Int(pe_load64(words)) - 1
            if wanted < 0 { continue }
            let state = reader.current.assumingMemoryBound(to: ForwardingState.self)
            let (vrf, prefix) = fabric.prefix(wanted)
            guard case .v4(let address) = prefix.address else { continue }
            if state.pointee.prefixes.lookup(vrf: UInt16(vrf + 1), ipv4: address.rawValue) != BucketView.miss {
                pe_store64(words, 0)
                pe_store64(words + 16, seconds().bitPattern)
            }
        }
        reader.offline()
    }
}
