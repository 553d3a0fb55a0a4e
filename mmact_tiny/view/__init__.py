"""Shows what a network sees and answers.

For others: `browse.browse`; `describe.config_to_describe` and `describe.describe`; of `windows`
`check_window`, `window_rows`, `cells_of`, `say_segments`, `write_segments`; `render.render_video`;
`cam.draw_cam`; and `pictures.check_pictures` and `draw_pictures`, which choose between the two.
"""
