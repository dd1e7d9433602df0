package publish

import (
	"context"
	"time"
)

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
	Remember     = remember
)

// HookedRsync is an rsync target whose commands go through do.
func HookedRsync(address string, do func(args []string, run func() error) error) Target {
	t, _, err := rsyncKind.Open(address)
	if err != nil {
		panic(err)
	}
	r := t.(*remote)
	r.rsync = func(ctx context.Context, args ...string) (out []byte, err error) {
		err = do(args, func() error { out, err = r.run(ctx, args...); return err })
		return out, err
	}
	return r
}

var ParseListing = func(b []byte) int { return len(leftoversOf(parseListing(b))) }
