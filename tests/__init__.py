"""The tests: unit (pure modules), integration (one service, real servers), system (all services), rules, browser."""
