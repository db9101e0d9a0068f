// The C twin of the fast path reads Swift's tables: every field is where its header says.

import CTwin
import FastPath
import Tables
import Testing

@Suite("Layouts for C")
struct TwinLayoutTests {
    @Test("tables, counters and ports lie in memory as the C twin reads them")
    func layout() {
        let known = TableLayout.fields.merging(PortLayout.fields) { first, _ in first }
        var compared = 0
        var at = twin_fields()
        while let name = at.pointee.name {
            let name = String(cString: name)
            #expect(known[name] == Int(at.pointee.offset), "\(name): bring bench/sources/twin/tables.h in line")
            compared += 1
            at += 1
        }
        #expect(compared > 60)
        #expect(!known.values.contains(-1), "a stored field is no longer stored")
    }
}
