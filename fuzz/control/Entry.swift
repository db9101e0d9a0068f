// The control fuzzer: libFuzzer drives, the target runs.

import FuzzTargets

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ run: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

@main
enum Fuzzer {
    static func main() {
        FuzzTarget.control.writeSeedsIfAsked()
        FuzzTarget.control.commitFaultIfAsked()
        var count = CommandLine.argc
        var arguments = CommandLine.unsafeArgv
        _ = runDriver(&count, &arguments) { bytes, count in
            FuzzTarget.control.run(UnsafeRawBufferPointer(start: bytes, count: count))
            return 0
        }
    }
}
