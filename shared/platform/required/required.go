// Package required checks that a struct of settings is complete.
package required

import (
	"maps"
	"slices"
	"strings"
)

// Fields panics with the names of the fields that are not given. Constructors call it: a
// field that was forgotten is a mistake in the program. It is to be found at the start, by
// its name, and not as a nil pointer at the first use, which may come at night.
func Fields(config string, given map[string]bool) {
	var missing []string
	for _, field := range slices.Sorted(maps.Keys(given)) {
		if !given[field] {
			missing = append(missing, field)
		}
	}
	if len(missing) > 0 {
		panic(config + " lacks " + strings.Join(missing, ", "))
	}
}
