// A model of FRR, the kernel and hosts that drives the control state with faults from a seed.

import Tables
import Wire

@testable import ControlPlane

/// What is really so, and everything between it and the control state.
///
/// zebra, the kernel's FDB and the queues behave as recorded: a move to local is silent on FPM and
/// leaves the vxlan driver's row, FPM does not replay L2 MACs, a killed zebra leaves its rows behind.
/// Every queue keeps its order; which queue is served next is random.
final class SimulationWorld {
    enum Place: Hashable { case nowhere, local(UInt32), remote(Int, isSticky: Bool) }
    struct Remote: Hashable { var vtep: Int; var isSticky: Bool }
    /// A path of the underlay: through port 0 or 1.
    struct Way: OptionSet, Hashable { let rawValue: Int }

    static let attachment: UInt32 = 9, vxlan: UInt32 = 6
    static let macs = (0..<10).map { "02:aa:00:00:00:0\($0)" }
    static func vtep(_ number: Int) -> String { "10.0.0.\(number + 2)" }
    static let vtepCount = 4
    /// Each MAC's address, in the gateway's subnet.
    static func address(_ mac: String) -> String { "192.0.2.\(10 + (macs.firstIndex(of: mac) ?? 90))" }
    static func mac(_ address: String) -> String? { ([anchor] + macs).first { Self.address($0) == address } }

    // The truth.
    var places: [String: Place] = [:]
    var flood: Set<Int> = []
    var ways: [Int: Way] = [:]
    var fabric = [1, 1]

    /// Which VTEPs announce a tenant prefix.
    var announced: [String: Set<Int>] = [:]
    /// The router MAC of each VTEP, by its last digit.
    var routerMAC = [Int](repeating: 1, count: 4)

    // zebra.
    var isZebraUp = true
    /// Router MACs that it holds, and the next-hop objects that it said on this connection.
    var zebraRMACs: [Int: Int] = [:]
    var saidObjects: Set<UInt32> = []
    var process: UInt32 = 100
    var remotes: [String: Remote] = [:]
    var isFPMUp = false
    var connection = 0

    // The kernel.
    var bridge: [String: UInt32] = [:]
    /// When zebra last wrote the bridge's row of a MAC, changed or not.
    var bridgeWritten: [String: Instant] = [:]
    /// MACs that a zebra wrote last while it had no FPM connection.
    var unsaid: Set<String> = []
    var vxlan: [String: Remote] = [:]
    var kernelFlood: Set<Int> = []
    /// Rows of the SVI: zebra's or ours.
    struct Binding: Hashable { var mac: String; var isZebra: Bool }
    var bindings: [String: Binding] = [:]
    var kernelRMACs: [Int: Int] = [:]

    // What is under way.
    var fpmQueue: [ControlEvent] = []
    var kernelQueue: [ControlEvent] = []
    var zebraQueue: [(mac: String, isLocal: Bool)] = []
    var zebraBindings: [String] = []
    var learnQueue: [LearnEvent] = []
    var neighborQueue: [NeighborEvent] = []
    var effectQueue: [ControlEffect] = []
    /// A dump's second half is still to be read.
    var openDump = false

    var random: SplitMix
    let rig: ControlRig
    var trace: [String] = []
    /// Every event goes into the trace.
    var isVerbose = false

    init(seed: UInt64, routes: Configuration.Control.Routes) throws {
        random = SplitMix(state: seed)
        rig = try makeRig {
            $0.dataplane.macAgeingSeconds = 20
            $0.dataplane.neighborTimeoutSeconds = 10
            $0.l2vnis[0].gatewayIPs = [IPPrefix("192.0.2.1/24")].compactMap { $0 }
            $0.control.staleHoldSeconds = 25
            $0.control.quietSeconds = 3
            $0.control.routes = routes
        }
        for index in 0..<2 { note(neighbor(index)) }
        // One host that never moves, such as a PE's own.
        places[Self.anchor] = .remote(0, isSticky: false)
        learnRemote(Self.anchor, Remote(vtep: 0, isSticky: false))
    }
    static let anchor = "02:00:00:aa:00:02"
    func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
    func log(_ line: String) { trace.append(line) }

    // MARK: Messages

    func note(_ message: NetlinkMessage) { kernelQueue.append(.kernelNotified([message])) }
    func send(_ messages: NetlinkMessage...) {
        guard isFPMUp && isZebraUp else { return }
        fpmQueue.append(.fpmFrame(connection: connection, messages))
        // The walk repeats itself; so may anything that is sent twice.
        if chance(10) { fpmQueue.append(.fpmFrame(connection: connection, messages)) }
    }
    func neighbor(_ index: Int) -> NetlinkMessage {
        Message.neighbor(
            "10.\(index + 1).0.1",
            "02:00:00:00:0\(index):0\(fabric[index])",
            interface: UInt32(2 + index)
        )
    }
    func selfRow(_ mac: String, _ remote: Remote, isDelete: Bool = false) -> NetlinkMessage {
        Message.mac(mac, Self.vtep(remote.vtep), isDelete: isDelete, isSticky: remote.isSticky)
    }
    func routeMessage(_ vtep: Int, _ origin: UInt32) -> NetlinkMessage {
        let way = ways[vtep] ?? []
        let hops = (0..<2).filter { way.contains(Way(rawValue: 1 << $0)) }.map {
            Message.hop("10.\($0 + 1).0.1", UInt32(2 + $0))
        }
        return Message.route(
            Self.vtep(vtep) + "/32",
            hops: hops,
            isDelete: hops.isEmpty,
            port: origin
        )
    }

    // MARK: zebra and the kernel

    func setBridge(_ mac: String, _ port: UInt32?) {
        let old = bridge[mac]
        if old == port { return }
        bridge[mac] = port
        if let port {
            note(Message.bridged(mac, port))
        } else if let old {
            note(Message.bridged(mac, old, isDelete: true))
        }
        if isZebraUp && (port == Self.attachment || (old == Self.attachment && port == nil)) {
            zebraQueue.append((mac, port == Self.attachment))
        }
    }
    /// A row of the SVI changes; zebra hears what is not its own doing.
    func setBinding(_ address: String, _ binding: Binding?, byZebra: Bool) {
        let old = bindings[address]
        if old == binding { return }
        bindings[address] = binding
        note(bindingMessage(address, binding ?? old, isDelete: binding == nil))
        if isZebraUp && !byZebra { zebraBindings.append(address) }
    }
    func bindingMessage(_ address: String, _ binding: Binding?, isDelete: Bool = false) -> NetlinkMessage {
        Message.binding(
            address, binding?.mac, isZebra: binding?.isZebra ?? false, isOwn: binding?.isZebra == false,
            isDelete: isDelete)
    }
    /// zebra reads a row that it did not write: ours makes the address local, a deletion of its own is
    /// undone, a deletion of ours makes BGP's next best count.
    func zebraReadsBinding() {
        guard !zebraBindings.isEmpty else { return }
        let address = zebraBindings.removeFirst()
        guard isZebraUp, bindings[address] == nil, let mac = Self.mac(address), remotes[mac] != nil else { return }
        setBinding(address, Binding(mac: mac, isZebra: true), byZebra: true)
    }

    /// zebra hears of a remote MAC by BGP: kernel first, then FPM.
    func learnRemote(_ mac: String, _ remote: Remote) {
        guard isZebraUp else { return }
        defer { setBinding(Self.address(mac), Binding(mac: mac, isZebra: true), byZebra: true) }
        if remotes[mac] == remote { return }
        remotes[mac] = remote
        if vxlan[mac] != remote {
            vxlan[mac] = remote
            note(selfRow(mac, remote))
        }
        setBridge(mac, Self.vxlan)
        bridgeWritten[mac] = rig.now
        if isFPMUp { unsaid.remove(mac) } else { unsaid.insert(mac) }
        send(selfRow(mac, remote))
    }
    func forgetRemote(_ mac: String) {
        guard isZebraUp, let remote = remotes.removeValue(forKey: mac) else { return }
        if bindings[Self.address(mac)]?.isZebra == true { setBinding(Self.address(mac), nil, byZebra: true) }
        if bridge[mac] == Self.vxlan { setBridge(mac, nil) }
        if let row = vxlan[mac], row.vtep == remote.vtep {
            vxlan[mac] = nil
            note(selfRow(mac, row, isDelete: true))
        }
        send(selfRow(mac, remote, isDelete: true))
    }
    /// zebra reads a bridge row of ours: local now, and not a word on FPM.
    func zebraReads() {
        guard !zebraQueue.isEmpty else { return }
        let (mac, isLocal) = zebraQueue.removeFirst()
        if isVerbose { log("  zebra reads \(mac) \(isLocal)") }
        guard isZebraUp else { return }
        if remotes[mac]?.isSticky == true {
            // A sticky MAC stays remote: zebra puts its row back.
            setBridge(mac, Self.vxlan)
        } else if isLocal {
            // Old news once zebra has put its own row there.
            if bridge[mac] != Self.vxlan { remotes[mac] = nil }
        } else if chance(50) {
            // The local one gone, BGP's next best comes at once or later.
            remoteTalks(mac)
        }
    }
    func setFlood(_ vtep: Int, _ isMember: Bool) {
        guard isZebraUp, kernelFlood.contains(vtep) != isMember else { return }
        if isMember { kernelFlood.insert(vtep) } else { kernelFlood.remove(vtep) }
        note(Message.flood(Self.vtep(vtep), isDelete: !isMember))
    }
    func setRoute(_ vtep: Int) {
        guard isZebraUp else { return }
        note(routeMessage(vtep, 0))
        send(routeMessage(vtep, process))
    }

    // MARK: Faults

    func connectFPM() {
        guard isZebraUp, !isFPMUp else { return }
        isFPMUp = true
        connection += 1
        fpmQueue.append(.fpmConnected(connection: connection))
        for index in 0..<2 {
            send(
                Message.route(
                    "10.\(index + 1).0.0/24",
                    proto: 2,
                    hops: [Message.hop(nil, UInt32(2 + index))],
                    port: process
                )
            )
        }
        for vtep in (0..<Self.vtepCount) where !(ways[vtep] ?? []).isEmpty {
            send(routeMessage(vtep, process))
        }
        replayTenants()
        log("connect \(connection)")
    }
    func dropFPM() {
        guard isFPMUp else { return }
        isFPMUp = false
        // What was not read yet is lost, but for the walk's begin.
        while let last = fpmQueue.last, case .fpmFrame(connection, let messages) = last, chance(60)
        {
            if case .route(let route)? = messages.first, route.routeProtocol == 2 { break }
            fpmQueue.removeLast()
        }
        fpmQueue.append(.fpmDisconnected(connection: connection))
        log("drop \(connection)")
    }
    func killZebra() {
        guard isZebraUp else { return }
        dropFPM()
        isZebraUp = false
        remotes = [:]
        zebraRMACs = [:]
        zebraQueue = []
        zebraBindings = []
        log("kill zebra")
    }
    /// A new zebra: it reads the kernel's bridge rows, then BGP comes back.
    func startZebra() {
        guard !isZebraUp else { return }
        isZebraUp = true
        process += 1
        // Its FPM client waits three seconds; BGP may be faster.
        let connectsFirst = chance(50)
        if connectsFirst { connectFPM() }
        for vtep in 0..<Self.vtepCount {
            setFlood(vtep, flood.contains(vtep))
            if (ways[vtep] ?? []).isEmpty { note(routeMessage(vtep, 0)) } else { setRoute(vtep) }
        }
        for (mac, place) in places.sorted(by: { $0.key < $1.key }) {
            if case .remote(let vtep, let isSticky) = place {
                learnRemote(mac, Remote(vtep: vtep, isSticky: isSticky))
            }
        }
        clearLeftovers()
        for prefix in Self.prefixes { setPrefix(prefix) }
        connectFPM()
        log("start zebra \(process)")
    }
    func overrun() {
        // Not the marks and rows of a dump: they come over another socket.
        let before = kernelQueue.count
        let lose = Int.random(in: 0...100, using: &random)
        kernelQueue.removeAll { if case .kernelNotified = $0 { chance(lose) } else { false } }
        kernelQueue.append(.kernelOverrun)
        log("overrun, lost \(before + 1 - kernelQueue.count)")
    }

    // MARK: Hosts

    func move(_ mac: String, to place: Place) {
        let old = places[mac] ?? .nowhere
        places[mac] = place
        log("\(mac) -> \(place)")
        switch place {
        case .remote(let vtep, let isSticky):
            learnRemote(mac, Remote(vtep: vtep, isSticky: isSticky))
        case .nowhere, .local:
            if case .remote = old, place == .nowhere || chance(30) { forgetRemote(mac) }
            if case .local = place {
                // It announces itself, or only sends something.
                if chance(50) { announce(mac) } else { talk(mac) }
            }
        }
    }
    func announce(_ mac: String, _ kind: NeighborEvent.Kind = .announcement) {
        guard case .local(let circuit)? = places[mac], let raw = MACAddress(mac),
            let address = IPAddress(Self.address(mac))
        else { return }
        talk(mac)
        neighborQueue.append(NeighborEvent(kind: kind, domain: 1, circuit: circuit, mac: raw, address: address))
    }
    /// A host answers when it is asked; one behind another VTEP is asked by its own gateway.
    func answer(_ address: IPAddress, _ mac: MACAddress?) {
        guard let host = Self.mac("\(address)"), mac == nil || mac?.description == host else { return }
        announce(host, .binding)
    }
    /// A local host sends: the worker reports it when the FDB does not have it there.
    func talk(_ mac: String) {
        guard case .local(let circuit)? = places[mac], let address = MACAddress(mac) else { return }
        if rig.tables.mac(domain: 1, address) == .circuit(circuit) {
            rig.apply(.seen([FDBKey.make(domain: 1, mac: address.rawValue)]))
        } else if rig.tables.mac(domain: 1, address)?.isSticky != true {
            learnQueue.append(LearnEvent(mac: address, domain: 1, circuit: circuit))
        }
    }
    /// A remote host sends: its PE says so again when zebra took the MAC for local.
    func remoteTalks(_ mac: String) {
        if case .remote(let vtep, let isSticky)? = places[mac] {
            learnRemote(mac, Remote(vtep: vtep, isSticky: isSticky))
        } else if remotes[mac] != nil {
            // BGP withdraws what the MAC's old place does not have any more.
            forgetRemote(mac)
        }
    }

    // MARK: Delivery

    /// Delivers one thing from one of the queues that have something.
    @discardableResult
    func step() -> Bool {
        var sources: [Int] = []
        if !fpmQueue.isEmpty { sources.append(0) }
        if !kernelQueue.isEmpty { sources.append(1) }
        if !learnQueue.isEmpty { sources.append(2) }
        if !effectQueue.isEmpty || openDump { sources.append(3) }
        if !zebraQueue.isEmpty { sources.append(4) }
        if !neighborQueue.isEmpty { sources.append(5) }
        if !zebraBindings.isEmpty { sources.append(6) }
        guard let source = sources.randomElement(using: &random) else { return false }
        switch source {
        case 0: deliver(fpmQueue.removeFirst())
        case 1: deliver(kernelQueue.removeFirst())
        case 2: deliver(.learned(learnQueue.removeFirst()))
        case 3: perform()
        case 5: deliver(.neighborSeen(neighborQueue.removeFirst()))
        case 6: zebraReadsBinding()
        default: zebraReads()
        }
        return true
    }
    func deliver(_ event: ControlEvent) {
        var event = event
        if case .kernelDumped(let messages) = event {
            // Rows wait here for seconds, in the daemon for milliseconds.
            let now = UInt32(rig.now.nanoseconds / 10_000_000)
            event = .kernelDumped(
                messages.map {
                    guard case .neighbor(var row) = $0, let written = row.writtenAge else { return $0 }
                    row.writtenAge = now - written
                    return .neighbor(row)
                })
        }
        if isVerbose { log("  \(event)") }
        effectQueue += rig.apply(event).filter { if case .log = $0 { false } else { true } }
    }

    private func perform() {
        if openDump {
            finishDump()
            return
        }
        let effect = effectQueue.removeFirst()
        if isVerbose { log("  effect \(effect)") }
        switch effect {
        case .addLocalMAC(_, let mac): setBridge(mac.description, Self.attachment)
        case .deleteLocalMAC(_, let mac):
            if bridge[mac.description] == Self.attachment { setBridge(mac.description, nil) }
        case .addLocalNeighbor(_, let address, let mac):
            setBinding("\(address)", Binding(mac: "\(mac)", isZebra: false), byZebra: false)
        case .deleteLocalNeighbor(_, let address): setBinding("\(address)", nil, byZebra: false)
        case .probeNeighbor(_, let address, let mac): answer(address, mac)
        case .dumpKernel:
            kernelQueue.append(.kernelDumpBegan)
            kernelQueue.append(.kernelDumped(Message.links + (0..<2).map { neighbor($0) }))
            if rig.state.configuration.control.routes == .netlink {
                kernelQueue.append(
                    .kernelDumped(
                        (0..<Self.vtepCount).filter { !(ways[$0] ?? []).isEmpty }.map {
                            routeMessage($0, 0)
                        } + Self.prefixes.filter { !(announced[$0] ?? []).isEmpty }.map { tenantRoute($0) }
                    )
                )
            }
            openDump = true
        default: break
        }
    }
    /// The FDB is read a while after the links, in a piece.
    private func finishDump() {
        openDump = false
        var rows = kernelFlood.sorted().map { Message.flood(Self.vtep($0)) }
        rows += kernelRMACs.sorted { $0.key < $1.key }.map { rmacRow($0.key, $0.value) }
        for mac in [Self.anchor] + Self.macs {
            if let remote = vxlan[mac] { rows.append(selfRow(mac, remote)) }
            guard let port = bridge[mac] else { continue }
            // The time itself; `deliver` makes it an age.
            let written = bridgeWritten[mac].map { UInt32($0.nanoseconds / 10_000_000) }
            rows.append(Message.bridged(mac, port, age: written))
        }
        rows += bindings.sorted { $0.key < $1.key }.map { bindingMessage($0.key, $0.value) }
        kernelQueue.append(.kernelDumped(rows))
        kernelQueue.append(.kernelDumpEnded)
    }
    func tick(_ seconds: Double) {
        rig.now = Instant(nanoseconds: rig.now.nanoseconds + UInt64(seconds * 1e9))
        deliver(.tick)
    }

    // MARK: A run

    func disturb() {
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<40:
            let mac = Self.macs.randomElement(using: &random) ?? ""
            let vtep = Int.random(in: 0..<Self.vtepCount, using: &random)
            // A sticky MAC stays where it is until it is withdrawn.
            if case .remote(_, isSticky: true)? = places[mac] {
                move(mac, to: .nowhere)
            } else {
                switch Int.random(in: 0..<5, using: &random) {
                case 0: move(mac, to: .nowhere)
                case 1, 2: move(mac, to: .local(UInt32.random(in: 0...1, using: &random)))
                default: move(mac, to: .remote(vtep, isSticky: chance(10)))
                }
            }
        case 40..<50: changeTenants()
        case 50..<60:
            let vtep = Int.random(in: 0..<Self.vtepCount, using: &random)
            if chance(50) { flood.formSymmetricDifference([vtep]) }
            setFlood(vtep, flood.contains(vtep))
        case 60..<72:
            let vtep = Int.random(in: 0..<Self.vtepCount, using: &random)
            ways[vtep] = Way(rawValue: Int.random(in: 0..<4, using: &random))
            setRoute(vtep)
        case 72..<77:
            let index = Int.random(in: 0..<2, using: &random)
            fabric[index] = 1 + Int.random(in: 0..<4, using: &random)
            note(neighbor(index))
        case 77..<81: for mac in Self.macs where chance(50) { talk(mac) }
        case 81..<84: for mac in Self.macs where chance(50) { announce(mac, .binding) }
        case 84..<89: if isFPMUp { dropFPM() } else { connectFPM() }
        case 89..<92: if isZebraUp { killZebra() } else { startZebra() }
        case 92..<95: overrun()
        default: tick(Double.random(in: 0.1...4, using: &random))
        }
    }
    func run(steps: Int) {
        connectFPM()
        for _ in 0..<steps {
            disturb()
            for _ in 0..<Int.random(in: 0...6, using: &random) { step() }
        }
        settle()
    }
    /// Faults end, hosts go on talking, time passes.
    func settle() {
        startZebra()
        connectFPM()
        for vtep in 0..<Self.vtepCount {
            setFlood(vtep, flood.contains(vtep))
            setRoute(vtep)
        }
        settleTenants()
        for second in 0..<60 {
            while step() {}
            // When no stale row is left they speak ARP once more; from then on they have to be asked.
            if second == 40 { for mac in Self.macs { announce(mac, .binding) } }
            for mac in [Self.anchor] + Self.macs {
                remoteTalks(mac)
                talk(mac)
            }
            while step() {}
            tick(1)
        }
        while step() {}
    }
}
