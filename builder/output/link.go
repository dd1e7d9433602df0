package output

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Link gives the complete file at from a second name, to, in place of what was
// there. Whoever changes one of the two changes both. Where the file system
// has no hard links, or from lies on another one, the error is that of link(2).
func Link(from, to string) error {
	const tries = 1000 // against names that others took
	for i := range tries {
		temp := filepath.Join(filepath.Dir(to), fmt.Sprintf(".%s.%d.%d.part", filepath.Base(to), os.Getpid(), i))
		err := os.Link(from, temp)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		// rename(2) leaves both names when they are the same file already.
		defer os.Remove(temp)
		if err := os.Rename(temp, to); err != nil {
			return err
		}
		return syncDir(filepath.Dir(to))
	}
	return fmt.Errorf("linking %s: every temporary name is taken", to)
}
