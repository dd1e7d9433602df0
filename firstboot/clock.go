package firstboot

import (
	"encoding/json"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// clockLimit is how long a clock that is certainly wrong keeps the machine from
// asking an authority. After that the other side may be wrong: an image that was
// baked by a machine whose clock was ahead must not wait for ever.
const clockLimit = 10 * time.Minute

// A clock is what is known of the machine's.
type clock struct {
	made  time.Time     // of the agent's program: it is later than that
	wrong time.Duration // how long it has been seen before that; zero: it is not
}

// early says whether the clock is certainly wrong.
func (c clock) early() bool { return c.wrong > 0 }

// holds says whether the clock keeps the machine from asking an authority.
func (c clock) holds() bool { return c.early() && c.wrong < clockLimit }

const (
	clockPath = runDir + "/clock.json"
	program   = "/usr/bin/prose-firstboot"
)

// lookAtClock says how long the clock has been wrong, by one that is not set:
// what stands on the disk may be dated by the wrong one.
func (m *machine) lookAtClock(now time.Time) clock {
	var c clock
	info, err := os.Stat(m.path(program))
	if err != nil || !now.Before(info.ModTime()) {
		return c
	}
	c.made = info.ModTime()
	up := m.sinceBoot()
	var seen struct{ Since time.Duration }
	b, err := m.read(clockPath, root)
	if err != nil || b == nil || json.Unmarshal(b, &seen) != nil || seen.Since > up {
		seen.Since = up
		// When it cannot be kept, the next look has it anew.
		if b, err := json.Marshal(seen); err == nil {
			_, _ = m.write(clockPath, b, 0o600, root)
		}
	}
	c.wrong = max(up-seen.Since, 1)
	return c
}

// sinceBoot is the time since the machine was started, sleep included.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
