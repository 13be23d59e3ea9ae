//go:build tools

// Package tools pins kwok, which plays nodes, in a module of its own: it is built only where it is used. The versions
// that it shares with ../go are the same ones, so that what Go has compiled is shared too.
package tools

import (
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
