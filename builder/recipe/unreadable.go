package recipe

import (
	"errors"
	"io/fs"
)

// An UnreadableError says that there is no recipe at a path, or no file that
// could be one.
type UnreadableError struct {
	Path string
	Err  error
}

func (e *UnreadableError) Error() string { return "reading recipe: " + e.Err.Error() }

func (e *UnreadableError) Unwrap() error { return e.Err }

// Hint is the next thing to do.
func (e *UnreadableError) Hint() string {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return "prose-image init " + e.Path + " writes one"
	}
	return ""
}
