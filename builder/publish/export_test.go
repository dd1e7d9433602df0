package publish

import "time"

// Hooked is a directory whose operations go through do, of a process with this
// number.
func Hooked(root string, pid int, do func(op, path string, run func() error) error) Target {
	d := newDirectory(root)
	d.files = files{do: do, chunk: 1000}
	d.stale = 20 * time.Millisecond
	d.me.PID = pid
	return d
}

var (
	NewDirectory = newDirectory
	ParseRecord  = parseRecord
	ParseEntries = parseEntries
)
