package main

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// A flag that the printed command forgets makes a failure that cannot be repeated
// once its default has changed.
func TestChaos_TheCommandThatRepeatsItNamesEveryFlag(t *testing.T) {
	upper := regexp.MustCompile(`([a-z])([A-Z])`)
	command := chaosCmd{}.again()
	for _, field := range reflect.VisibleFields(reflect.TypeFor[chaosCmd]()) {
		flag := "--" + strings.ToLower(upper.ReplaceAllString(field.Name, "$1-$2")) + " "
		if !strings.Contains(command, flag) {
			t.Errorf("%s is not in %s", flag, command)
		}
	}
}
