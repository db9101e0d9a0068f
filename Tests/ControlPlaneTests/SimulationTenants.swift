// Tenant routes of the simulated world: VTEPs that announce prefixes, router MACs, and FRR's faults.

import Tables
import Wire

@testable import ControlPlane

extension SimulationWorld {
    static let prefixes = ["172.16.1.0/24", "172.16.0.0/16", "172.16.1.7/32", "fd00:172::/64", "fd00:172::7/128"]
    static func rmac(_ vtep: Int, _ number: Int) -> String { "02:00:00:50:0\(number):0\(vtep)" }

    // MARK: Messages

    func rmacRow(_ vtep: Int, _ number: Int, isDelete: Bool = false) -> NetlinkMessage {
        Message.mac(Self.rmac(vtep, number), Self.vtep(vtep), interface: 8, isDelete: isDelete)
    }
    /// A next hop of an IPv6 prefix is the v4-mapped VTEP.
    static func gateway(_ vtep: Int, _ prefix: String) -> String {
        (prefix.contains(":") ? "::ffff:" : "") + Self.vtep(vtep)
    }
    /// With its next hops inside, as the kernel tells it.
    func tenantRoute(_ prefix: String, isDelete: Bool = false) -> NetlinkMessage {
        let hops = (announced[prefix] ?? []).sorted().map { Message.hop(Self.gateway($0, prefix), 7, isOnlink: true) }
        return Message.route(prefix, hops: isDelete ? [] : hops, isDelete: isDelete, port: 0)
    }
    /// zebra numbers its objects anew in each process.
    private func object(_ vtep: Int, _ prefix: String) -> UInt32 {
        process * 100 + UInt32(vtep) + (prefix.contains(":") ? 10 : 0)
    }
    private func group(_ vteps: [Int], _ prefix: String) -> UInt32 {
        process * 100 + 50 + vteps.reduce(0) { $0 + UInt32(1) << UInt32($1) } + (prefix.contains(":") ? 16 : 0)
    }
    /// What has to be said before a route can refer to its object; groups before their members at times.
    private func objects(_ prefix: String) -> (id: UInt32, messages: [NetlinkMessage]) {
        let vteps = (announced[prefix] ?? []).sorted()
        var messages: [NetlinkMessage] = []
        for vtep in vteps where saidObjects.insert(object(vtep, prefix)).inserted {
            messages.append(Message.nextHop(object(vtep, prefix), Self.gateway(vtep, prefix), 7))
        }
        if vteps.count == 1 { return (object(vteps[0], prefix), messages) }
        let id = group(vteps, prefix)
        if saidObjects.insert(id).inserted {
            let message = Message.group(id, vteps.map { (object($0, prefix), 1) })
            if chance(50) { messages.append(message) } else { messages.insert(message, at: 0) }
        }
        return (id, messages)
    }

    // MARK: zebra

    /// zebra has the prefix as it is announced now: router MACs, objects, then the route.
    func setPrefix(_ prefix: String) {
        guard isZebraUp else { return }
        let vteps = (announced[prefix] ?? []).sorted()
        for vtep in vteps where zebraRMACs[vtep] != routerMAC[vtep] {
            zebraRMACs[vtep] = routerMAC[vtep]
            setRMAC(vtep, routerMAC[vtep])
        }
        if vteps.isEmpty {
            dropRMACs()
            note(tenantRoute(prefix, isDelete: true))
            send(Message.route(prefix, isDelete: true, port: process))
            return
        }
        note(tenantRoute(prefix))
        if isFPMUp {
            let object = objects(prefix)
            for message in object.messages { send(message) }
            let route = Message.route(prefix, id: object.id, port: process)
            // FRR 8.4.4 deletes first, in one frame; later ones replace.
            if chance(50) {
                send(Message.route(prefix, isDelete: true, port: process), route)
            } else {
                send(route)
            }
        }
        dropRMACs()
    }
    /// Router MACs in the kernel that a killed zebra left and the new one does not need.
    func clearLeftovers() {
        let used = Set(announced.values.flatMap { $0 })
        for (vtep, number) in kernelRMACs.sorted(by: { $0.key < $1.key }) where !used.contains(vtep) {
            kernelRMACs[vtep] = nil
            note(rmacRow(vtep, number, isDelete: true))
        }
    }
    private func setRMAC(_ vtep: Int, _ number: Int) {
        kernelRMACs[vtep] = number
        note(rmacRow(vtep, number))
        send(rmacRow(vtep, number))
    }
    /// Router MACs that nothing needs are deleted; FRR 8.4.4 at times deletes one that is in use.
    private func dropRMACs() {
        let used = Set(announced.values.flatMap { $0 })
        for (vtep, number) in zebraRMACs.sorted(by: { $0.key < $1.key }) where !used.contains(vtep) || chance(10) {
            zebraRMACs[vtep] = nil
            if kernelRMACs[vtep] == number { kernelRMACs[vtep] = nil }
            note(rmacRow(vtep, number, isDelete: true))
            send(rmacRow(vtep, number, isDelete: true))
        }
    }
    /// After an accept: objects in any order, routes, router MACs.
    func replayTenants() {
        saidObjects = []
        var messages: [NetlinkMessage] = []
        var routes: [NetlinkMessage] = []
        for prefix in Self.prefixes where !(announced[prefix] ?? []).isEmpty {
            let object = objects(prefix)
            messages += object.messages
            routes.append(Message.route(prefix, id: object.id, port: process))
        }
        for message in messages.shuffled(using: &random) + routes { send(message) }
        for (vtep, number) in zebraRMACs.sorted(by: { $0.key < $1.key }) { send(rmacRow(vtep, number)) }
    }

    // MARK: Changes

    func changeTenants() {
        let prefix = Self.prefixes.randomElement(using: &random) ?? ""
        let vtep = Int.random(in: 0..<Self.vtepCount, using: &random)
        switch Int.random(in: 0..<8, using: &random) {
        case 0: announced[prefix] = []
        case 1: routerMAC[vtep] = 1 + routerMAC[vtep] % 3
        default: announced[prefix, default: []].formSymmetricDifference([vtep])
        }
        if isVerbose { log("  tenants \(announced) \(routerMAC)") }
        for prefix in Self.prefixes { setPrefix(prefix) }
    }
    /// zebra says every router MAC in use once more: what it lost by its own fault is back.
    func settleTenants() {
        for prefix in Self.prefixes { setPrefix(prefix) }
        for vtep in Set(announced.values.flatMap { $0 }).sorted() {
            zebraRMACs[vtep] = routerMAC[vtep]
            setRMAC(vtep, routerMAC[vtep])
        }
    }
    /// The truth alone, with inline next hops.
    func tell(_ rig: ControlRig) {
        for vtep in Set(announced.values.flatMap { $0 }).sorted() { rig.frame(rmacRow(vtep, routerMAC[vtep])) }
        for prefix in Self.prefixes where !(announced[prefix] ?? []).isEmpty { rig.frame(tenantRoute(prefix)) }
    }
    /// What the tables route: each prefix's members, and whom packets of the VRF are accepted from.
    static func tenants(_ rig: ControlRig) -> [String] {
        prefixes.map { "\($0) \(Set(rig.flows("default", $0)).sorted())" }
            + ["VRF members \(rig.members(ofVRF: "default"))"] + rig.compiler.routeFaults(rig.state)
    }
}
