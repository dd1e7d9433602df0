package catalog

// ErrUnavailable says that this program was built without the catalog.
var ErrUnavailable error = unavailableError{}

type unavailableError struct{}

func (unavailableError) Error() string {
	return "this prose-image was built without the catalog, which needs the C library dqlite"
}

func (unavailableError) Hint() string {
	return "build it with the catalog: apt-get install gcc libdqlite-dev libraft-dev && make build"
}
