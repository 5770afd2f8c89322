package hub_test

import (
	"testing"

	"github.com/postern-db/postern/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
