//go:build !(cgo && libsqlite3)

package catalog

import (
	"database/sql"
	"os"
)

// Available says whether this program was built with the catalog.
const Available = false

// What a program without the C library has in the place of node.go.
type place struct{ dir *os.File }

func open(string) (*place, *sql.DB, error) { return nil, nil, ErrUnavailable }
func again(error) bool                     { return false }
func (p *place) explain(err error) error   { return err }
func (p *place) failure() error            { return nil }
func (p *place) close() error              { return nil }
