"""Shows what a network sees and answers.

For others: `browse.browse_split` and `browse_video`; `describe.config_to_describe` and `describe`;
`sheet.write_picture`; of `windows` `window_rows`, `say_segments` and `write_segments`; and of
`pictures` `check_pictures` and `draw_pictures`. `show` is what `Recognizer.show` calls.
"""
