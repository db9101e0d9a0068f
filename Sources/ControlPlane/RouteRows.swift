// What routes say, each content kept once: many routes share their next hop and all else.

import Wire

/// Contents of routes by number, with the number of routes that have each.
struct RouteRows {
    private var rows: [RouteIntent.Row] = []
    private var counts: [UInt32] = []
    /// Of a number's present content: never the same again when the number is used anew.
    private var serials: [UInt64] = []
    private var lastSerial: UInt64 = 0
    private var numbers: [RouteIntent.Row: UInt32] = [:]
    private var free: [UInt32] = []
    /// Numbers of contents that were used lately, by a few of their bits.
    private var recent = [UInt32](repeating: UInt32.max, count: 1024)

    subscript(number: UInt32) -> RouteIntent.Row { rows[Int(number)] }
    func serial(_ number: UInt32) -> UInt64 { serials[Int(number)] }
    /// Numbers are below this.
    var limit: Int { rows.count }

    private static func place(_ row: RouteIntent.Row) -> Int {
        var word = UInt64(row.nextHopID) &+ UInt64(row.dump) &<< 32 ^ UInt64(row.origin.rawValue) &<< 40
        for hop in row.nextHops {
            switch hop.gateway {
            case .v4(let address): word ^= UInt64(address.rawValue) &<< 16
            case .v6(let address): word ^= address.low &<< 16
            case nil: break
            }
            word = mixedWord(word &+ UInt64(hop.interface))
        }
        return Int(mixedWord(word) &>> 54)
    }

    /// The number of a content, for one route more; and whether it is the first.
    mutating func retain(_ row: RouteIntent.Row) -> (number: UInt32, isFirst: Bool) {
        let place = Self.place(row)
        let last = recent[place]
        if last != UInt32.max, counts[Int(last)] > 0, rows[Int(last)] == row {
            counts[Int(last)] += 1
            return (last, false)
        }
        if let known = numbers[row] {
            counts[Int(known)] += 1
            recent[place] = known
            return (known, false)
        }
        let number: UInt32
        lastSerial += 1
        if let unused = free.popLast() {
            number = unused
            rows[Int(number)] = row
            counts[Int(number)] = 1
            serials[Int(number)] = lastSerial
        } else {
            number = UInt32(truncatingIfNeeded: rows.count)
            rows.append(row)
            counts.append(1)
            serials.append(lastSerial)
        }
        numbers[row] = number
        recent[place] = number
        return (number, true)
    }
    /// One route less; the content when it was the last.
    mutating func release(_ number: UInt32) -> RouteIntent.Row? {
        counts[Int(number)] -= 1
        if counts[Int(number)] > 0 { return nil }
        let row = rows[Int(number)]
        numbers[row] = nil
        rows[Int(number)].nextHops = []
        free.append(number)
        return row
    }
    /// Every content in use, and how many routes have it.
    func forEach(_ body: (RouteIntent.Row, Int) -> Void) {
        for number in rows.indices where counts[number] > 0 { body(rows[number], Int(counts[number])) }
    }
}
