module forebay.dev/overlay/copy

go 1.24
