// Side lanes of routing that do no more than account for their packets.

import Tables

extension Pipeline {
    func drainNeighbors(_ classified: Int) -> Int {
        var kept = classified
        var index = 0
        while index < memory.pointee.side.neighbors {
            kept = proceed(memory.pointee.neighbors + index, at: kept)
            index = index &+ 1
        }
        memory.pointee.side.neighbors = 0
        return kept
    }
    func drainLocal() {
        var index = 0
        while index < memory.pointee.side.local {
            drop(memory.pointee.local[index].packet, .noGatewayService)
            index = index &+ 1
        }
        memory.pointee.side.local = 0
    }
    func drainErrors() {
        var index = 0
        while index < memory.pointee.side.errors {
            drop(memory.pointee.errors[index].packet, memory.pointee.errors[index].reason)
            index = index &+ 1
        }
        memory.pointee.side.errors = 0
    }
    func drainWaiting() {
        var index = 0
        while index < memory.pointee.side.waiting {
            drop(memory.pointee.waiting[index].packet, .neighborUnreachable)
            index = index &+ 1
        }
        memory.pointee.side.waiting = 0
    }
}
