module weft/compare

go 1.21
