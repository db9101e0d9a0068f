// The compiler's proof that a burst neither locks, allocates nor counts references.

#if !DEBUG
/// Never called. Release builds check everything that one poll reaches; a violation is an error at
/// the offending line. In debug builds functions of other files are "not available in this module",
/// hence the condition.
@_noLocks
func hotPathContract(_ memory: UnsafeMutablePointer<WorkerMemory>) -> Int {
    memory.poll()
}
#endif
