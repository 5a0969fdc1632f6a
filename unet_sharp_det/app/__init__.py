"""A web page on which a trained model finds objects in one image at a time; needs gradio.

``server`` starts it, ``guard`` says which requests reach it, ``page`` lays it out. The other
modules don't know gradio: ``analysis`` (what is found and measured), ``isolation`` (the same in
processes of their own), ``presentation`` (pictures, figures and text), ``sessions`` (what is kept
of each open page).
"""
