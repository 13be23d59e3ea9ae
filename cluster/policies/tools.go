//go:build tools

// Package tools pins kube-network-policies, which enforces NetworkPolicies, in a module of its own, with the versions that
// its project tested: it is built only where it is used.
package tools

import (
	_ "sigs.k8s.io/kube-network-policies/cmd"
)
