// Messages per second, memory, worker stalls and exactness of the control plane, fed with FPM streams.

import CLinux
import ControlPlane
import Foundation
import Glibc
import Tables
import Wire

let usage = """
    usage: bench-control rates|memory|stall|exact|tcp|generate|replay [options]

      rates     feeds the synthetic streams into the decoder, the state and the tables: messages a second
      memory    bytes for each route or MAC; give --macs 0 or --routes 0
      stall     gaps between a worker's polls, while the writer is at full speed and while a twin of it is, which
                does the same in a process of its own, in tables that the worker does not read
      exact     a reader looks up all the time and compares with the truth of each generation
      tcp       the same streams through a TCP socket into the real server and the control thread
      generate  writes the streams, the kernel's dump and the configuration to --dir
      replay    feeds recorded streams (files after the options) again and again, each time as a new connection

      --routes N --macs N --vrfs N --domains N --vteps N --prefixes N   sizes of the fabric
      --style frr10|frr8      what zebra's messages look like
      --load feed|hammer      of stall: the streams, or the very entries that the worker reads
      --generations N         changes after the installation, each of one key in 16
      --seconds S             length of replay runs; of stall, of the writer's and the twin's windows each
      --repetitions N         of rates: each with fresh tables
      --cpu N --reader-cpu N  of the writer and of the reader
      --links FILE            of replay: a kernel dump of the devices
      --dir DIR               of generate

    Prints one JSON document.
    """

struct Options {
    var command = ""
    var fabric = Fabric()
    var generations = 8
    var seconds = 2.0
    var repetitions = 1
    var cpu = 0
    var readerCPU = 1
    var directory = ""
    var links = ""
    var load = StallLoad.feed
    var files: [String] = []

    init() {
        var arguments = CommandLine.arguments.dropFirst()
        func text(_ name: String) -> String {
            guard let value = arguments.popFirst() else { fail("\(name) needs a value; see --help") }
            return value
        }
        func number(_ name: String, from least: Int = 0) -> Int {
            guard let value = Int(text(name)), value >= least, value <= 1 << 24 else {
                fail("\(name) needs a number, \(least) to \(1 << 24)")
            }
            return value
        }
        while let argument = arguments.popFirst() {
            switch argument {
            case "--help", "-h":
                print(usage)
                exit(0)
            case "--routes": fabric.routes = number(argument)
            case "--macs": fabric.macs = number(argument)
            case "--vrfs": fabric.vrfs = min(4096, number(argument, from: 1))
            case "--domains": fabric.domains = min(4096, number(argument, from: 1))
            case "--vteps": fabric.vteps = min(4096, number(argument, from: 2))
            case "--prefixes": fabric.prefixes = number(argument)
            case "--style":
                guard let style = Fabric.Style(rawValue: text(argument)) else { fail("--style is frr10 or frr8") }
                fabric.style = style
            case "--generations": generations = number(argument)
            case "--seconds": seconds = Double(number(argument, from: 1))
            case "--repetitions": repetitions = number(argument, from: 1)
            case "--cpu": cpu = number(argument)
            case "--reader-cpu": readerCPU = number(argument)
            case "--load":
                guard let named = StallLoad(rawValue: text(argument)) else { fail("--load is feed or hammer") }
                load = named
            case "--dir": directory = text(argument)
            case "--links": links = text(argument)
            default:
                if argument.hasPrefix("-") { fail("unknown option \(argument); see --help") }
                if command.isEmpty { command = argument } else { files.append(argument) }
            }
        }
        fabric.spread = min(fabric.spread, fabric.vteps)
    }
}

@main struct ControlBench {
    static func main() {
        let options = Options()
        let measure = Measurements(options)
        let result: [String: Any]
        switch options.command {
        case "rates": result = measure.rates()
        case "memory": result = measure.memory()
        case "stall": result = StallRun(options).measure()
        case "twin": StallRun(options).serveAsTwin()
        case "exact": result = measure.exact()
        case "tcp": result = measure.tcp()
        case "generate": result = measure.generate()
        case "replay": result = measure.replay()
        case "": fail("what is to be measured? see --help")
        default: fail("unknown command \(options.command); see --help")
        }
        guard let data = try? JSONSerialization.data(withJSONObject: result, options: [.sortedKeys]) else {
            fail("the result cannot be written as JSON")
        }
        print(String(decoding: data, as: UTF8.self))
    }
}
